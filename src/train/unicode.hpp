// The little Unicode that reading text needs, over utf8proc: validity, normal form C, lower case, words. Private.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attune::train::unicode {

/// Byte offset of the first byte that is not UTF-8, or -1.
std::int64_t first_invalid(std::string_view text);

/// Calls f(code point, byte offset, bytes) along valid UTF-8. Throws Error at the first invalid byte.
template <class F>
void for_each(std::string_view text, F&& f);

/// The code point at `text[at]` and its length in bytes; length 0 if the bytes are not UTF-8.
struct CodePoint {
  std::int32_t value = 0;
  std::int64_t bytes = 0;
};
CodePoint decode(std::string_view text, std::size_t at);
void append(std::string& text, std::int32_t code_point);

/// White space as Unicode knows it: spaces of every width, tabs, line and paragraph separators.
bool is_space(std::int32_t code_point);
/// Letters of category Lu.
bool is_upper(std::int32_t code_point);

std::string nfc(std::string_view text);
std::string lower(std::string_view text);
/// Number of code points.
std::int64_t length(std::string_view text);
/// Runs of anything but white space.
std::vector<std::string_view> words(std::string_view text);
/// The words joined by single spaces.
std::string collapse_spaces(std::string_view text);
/// Without white space at either end.
std::string_view trim(std::string_view text);

[[noreturn]] void fail_invalid(std::string_view text);

template <class F>
void for_each(std::string_view text, F&& f) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    if (c.bytes == 0) fail_invalid(text);
    f(c.value, at, c.bytes);
    at += std::size_t(c.bytes);
  }
}

}  // namespace attune::train::unicode

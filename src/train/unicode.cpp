#include "train/unicode.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "attune/base/error.hpp"

namespace attune::train::unicode {

CodePoint decode(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {byte, 1};
  utf8proc_int32_t value = -1;
  const utf8proc_ssize_t bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                                  utf8proc_ssize_t(text.size() - at), &value);
  if (bytes <= 0) return {0, 0};
  return {value, bytes};
}

void append(std::string& text, std::int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), std::size_t(n));
}

std::int64_t first_invalid(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    if (c.bytes == 0) return std::int64_t(at);
    at += std::size_t(c.bytes);
  }
  return -1;
}

void fail_invalid(std::string_view text) {
  fail("unicode", "UTF-8", fmt::format("byte {} of {} is not", first_invalid(text), text.size()));
}

bool is_space(std::int32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
  const utf8proc_category_t category = utf8proc_category(c);
  return c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool is_upper(std::int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_LU; }

std::string nfc(std::string_view text) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &mapped,
                   utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (bytes < 0) fail_invalid(text);
  return std::string(reinterpret_cast<const char*>(mapped), std::size_t(bytes));
}

std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each(text, [&](std::int32_t c, std::size_t, std::int64_t) { append(result, utf8proc_tolower(c)); });
  return result;
}

std::int64_t length(std::string_view text) {
  std::int64_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return n;
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  std::size_t begin = 0;
  for_each(text, [&](std::int32_t c, std::size_t at, std::int64_t bytes) {
    if (!is_space(c)) return;
    if (at > begin) found.push_back(text.substr(begin, at - begin));
    begin = at + std::size_t(bytes);
  });
  if (begin < text.size()) found.push_back(text.substr(begin));
  return found;
}

std::string collapse_spaces(std::string_view text) {
  std::string result;
  for (const std::string_view word : words(text)) {
    if (!result.empty()) result += ' ';
    result += word;
  }
  return result;
}

std::string_view trim(std::string_view text) {
  const std::vector<std::string_view> found = words(text);
  if (found.empty()) return {};
  return text.substr(std::size_t(found.front().data() - text.data()),
                     std::size_t(found.back().data() + found.back().size() - found.front().data()));
}

}  // namespace attune::train::unicode

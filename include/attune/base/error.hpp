// The one exception type of attune. Every message reads "function: expectation, finding":
// what was called, what it needs, what it was given.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

namespace attune {

/// Bad input: a shape, a file, a configuration or an argument that a function cannot serve.
/// The library never prints, exits or aborts; it throws this.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  Error(std::string_view function, std::string_view expectation, std::string_view finding);
};

/// Throws Error("function: expectation, finding").
[[noreturn]] void fail(std::string_view function, std::string_view expectation, std::string_view finding);

/// Throws as fail() does unless `holds`. The texts are built only by callers that need them; prefer
/// `if (!ok) fail(...)` where the finding costs something to format.
inline void expect(bool holds, std::string_view function, std::string_view expectation, std::string_view finding) {
  if (!holds) fail(function, expectation, finding);
}

}  // namespace attune

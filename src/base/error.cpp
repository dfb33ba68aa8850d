#include "attune/base/error.hpp"

#include <fmt/format.h>

namespace attune {

Error::Error(std::string_view function, std::string_view expectation, std::string_view finding)
    : std::runtime_error(fmt::format("{}: {}, {}", function, expectation, finding)) {}

void fail(std::string_view function, std::string_view expectation, std::string_view finding) {
  throw Error(function, expectation, finding);
}

}  // namespace attune

// The text of the Error that a call throws.
#pragma once
#include <functional>
#include <string>

#include "attune/base/error.hpp"

namespace attune::testing {

/// "no error" if f returns.
inline std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace attune::testing

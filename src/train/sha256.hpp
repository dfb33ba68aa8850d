// SHA-256 of a text, as hex. Private.
#pragma once
#include <string>
#include <string_view>

namespace attune::train {

std::string sha256_hex(std::string_view text);

}  // namespace attune::train

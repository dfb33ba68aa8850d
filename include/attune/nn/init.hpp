// Initialisers, by enum and by name.
//   xavier   "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010
//   kaiming  "Delving deep into rectifiers", arXiv:1502.01852
#pragma once
#include <cstdint>
#include <string_view>

#include "attune/autograd/tensor.hpp"

namespace attune {
struct AttendParameter;  // attention/attend.hpp
}

namespace attune::nn {

enum class Init : std::uint8_t {
  zeros,
  ones,
  normal,           // standard deviation `gain`
  uniform,          // -gain .. gain
  xavier_uniform,   // +-gain * sqrt(6 / (in + out))
  xavier_normal,    // gain * sqrt(2 / (in + out))
  kaiming_uniform,  // +-gain * sqrt(3 / in); gain sqrt(2) suits ReLU
  kaiming_normal    // gain / sqrt(in)
};

struct Initializer {
  Init kind = Init::xavier_uniform;
  double gain = 1;
};

/// "zeros", "xavier_uniform", ...
std::string_view name_of(Init);
/// The reverse; throws Error for any other text, and names the nearest.
Init init_from_name(std::string_view name);

/// Fills a tensor; in and out are its last extent and the product of the others ([out, in]), for rank 1 both its size.
/// fan_out, if given, replaces the out extent (several matrices stacked in one).
void initialize(Tensor&, const Initializer&, Generator&, std::int64_t fan_out = 0);
/// A stage's learned array as it begins (Start in attention/stage.hpp).
Tensor make_parameter(const AttendParameter&);
/// A new tensor, filled from the default generator.
Tensor make_parameter(const Shape&, const Initializer&, std::int64_t fan_out = 0);

}  // namespace attune::nn

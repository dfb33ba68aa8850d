// Positions added to tokens: a table of sines that grows by doubling, or learned rows.
#include "attune/nn/positions.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "attune/attention/position/sinusoidal.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/init.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {
/// Last position + 1 that tokens [B, T, C] stand at.
std::int64_t checked_end(std::string_view name, const Tensor& tokens, std::int64_t first, std::int64_t model_dim) {
  if (tokens.rank() != 3 || tokens.shape()[2] != model_dim) {
    fail(name, "tokens [B, T, " + std::to_string(model_dim) + "]", "got " + tokens.shape().text());
  }
  if (first < 0) fail(name, "a first position of at least 0", "got " + std::to_string(first));
  return first + tokens.shape()[1];
}
}  // namespace

std::string_view name_of(TokenPosition position) {
  switch (position) {
    case TokenPosition::none:
      return "none";
    case TokenPosition::sinusoidal:
      return "sinusoidal";
    default:
      return "learned";
  }
}

TokenPosition token_position_from_name(std::string_view name) {
  for (const TokenPosition p : {TokenPosition::none, TokenPosition::sinusoidal, TokenPosition::learned})
    if (name == name_of(p)) return p;
  fail("token_position_from_name", "none, sinusoidal or learned", name);
}

SinusoidalPositions::SinusoidalPositions(const SinusoidalPositionsOptions& options) : options_(options) {
  if (options.model_dim < 1) {
    fail("SinusoidalPositions", "model_dim of at least 1", "got " + std::to_string(options.model_dim));
  }
}

Tensor SinusoidalPositions::operator()(const Tensor& tokens, std::int64_t first) const {
  const std::int64_t c = options_.model_dim, end = checked_end("SinusoidalPositions", tokens, first, c);
  if (!table_ || table_.dtype() != tokens.dtype() || table_.shape()[0] < end) {
    const auto rows = std::int64_t(std::bit_ceil(std::uint64_t(std::max<std::int64_t>(end, 64))));
    Tensor table = Tensor::empty({rows, c}, DType::float64);
    const Sinusoidal wave{.base = options_.base};
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t d = 0; d < c; ++d) table.data<double>()[r * c + d] = wave.at(r, int(d), int(c));
    }
    table_ = table.to(tokens.dtype());
  }
  return add(tokens, slice(table_, 0, first, end));
}

LearnedPositions::LearnedPositions(const LearnedPositionsOptions& options) {
  if (options.num_positions < 1 || options.model_dim < 1) {
    fail("LearnedPositions", "num_positions and model_dim of at least 1",
         "got " + std::to_string(options.num_positions) + " and " + std::to_string(options.model_dim));
  }
  weight = add_parameter("weight", make_parameter({options.num_positions, options.model_dim}, {Init::normal, 0.02}));
}

Tensor LearnedPositions::operator()(const Tensor& tokens, std::int64_t first) const {
  const std::int64_t end = checked_end("LearnedPositions", tokens, first, weight.shape()[1]);
  if (end > weight.shape()[0]) {
    fail("LearnedPositions", "positions below " + std::to_string(weight.shape()[0]),
         "the last is " + std::to_string(end - 1));
  }
  return add(tokens, slice(weight, 0, first, end));
}

std::vector<ParameterRows> LearnedPositions::own_roles() const {
  return detail::Told().all(*this, Role::position).rows;
}

}  // namespace attune::nn

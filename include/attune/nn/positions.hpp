// Positions that are added to tokens before the first layer: sinusoidal (fixed) or learned.
// "Attention is all you need", arXiv:1706.03762: dimension 2k gets sin(position / base^(2k/C)), 2k+1 the cosine.
#pragma once
#include <cstdint>
#include <string_view>

#include "attune/nn/module.hpp"

namespace attune::nn {

/// What a model adds to the embeddings of its tokens before the first layer.
enum class TokenPosition : std::uint8_t { none, sinusoidal, learned };
/// "none", "sinusoidal", "learned".
std::string_view name_of(TokenPosition);
/// The reverse; throws Error for any other text.
TokenPosition token_position_from_name(std::string_view name);

struct SinusoidalPositionsOptions {
  std::int64_t model_dim = 0;
  double base = 10000;
};

/// Any length; the table grows as needed.
class SinusoidalPositions : public Module {
 public:
  explicit SinusoidalPositions(const SinusoidalPositionsOptions&);
  /// tokens [B, T, C] + table[first .. first + T - 1]
  Tensor operator()(const Tensor& tokens, std::int64_t first = 0) const;

 private:
  SinusoidalPositionsOptions options_;
  mutable Tensor table_;  // [rows, C]
};

struct LearnedPositionsOptions {
  std::int64_t num_positions = 0, model_dim = 0;
};

/// weight [num_positions, C], normal with standard deviation 0.02. Throws Error beyond num_positions.
class LearnedPositions : public Module {
 public:
  explicit LearnedPositions(const LearnedPositionsOptions&);
  Tensor operator()(const Tensor& tokens, std::int64_t first = 0) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor weight;
};

}  // namespace attune::nn

// LayerNorm and RMSNorm over the last axis (autograd/ops/norm.hpp has the formulas).
#pragma once
#include <cstdint>
#include <string_view>

#include "attune/nn/module.hpp"

namespace attune::nn {

struct NormOptions {
  std::int64_t dim = 0;
  double epsilon = 1e-5;
  bool bias = true;  // LayerNorm's
};

/// weight [dim] starts at 1, bias [dim] at 0.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(const NormOptions&);
  /// [..., dim] -> [..., dim]
  Tensor operator()(const Tensor& x) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor weight, bias;

 private:
  double epsilon_;
};

/// weight [dim] starts at 1.
class RMSNorm : public Module {
 public:
  explicit RMSNorm(const NormOptions&);
  Tensor operator()(const Tensor& x) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor weight;

 private:
  double epsilon_;
};

enum class NormKind : std::uint8_t { layer, rms };
/// "layer", "rms".
std::string_view name_of(NormKind);
/// The reverse; throws Error for any other text.
NormKind norm_kind_from_name(std::string_view name);

/// One of the two, chosen at run time: weight [dim], and bias [dim] of a layer norm.
class Norm : public Module {
 public:
  Norm(NormKind kind, const NormOptions&);
  Tensor operator()(const Tensor& x) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor weight, bias;

 private:
  NormKind kind_;
  double epsilon_;
};

}  // namespace attune::nn

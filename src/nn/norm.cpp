// LayerNorm and RMSNorm: the operators with parameters of their own.
#include "attune/nn/norm.hpp"

#include <string>

#include "attune/autograd/ops/norm.hpp"
#include "attune/base/error.hpp"
#include "nn/told.hpp"

namespace attune::nn {
namespace {
void check(std::string_view name, const NormOptions& options) {
  if (options.dim < 1) fail(name, "dim of at least 1", "got " + std::to_string(options.dim));
  if (!(options.epsilon >= 0)) fail(name, "epsilon of at least 0", "got " + std::to_string(options.epsilon));
}
}  // namespace

LayerNorm::LayerNorm(const NormOptions& options) : epsilon_(options.epsilon) {
  check("LayerNorm", options);
  weight = add_parameter("weight", Tensor::ones({options.dim}));
  if (options.bias) bias = add_parameter("bias", Tensor::zeros({options.dim}));
}
Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight, bias, epsilon_); }

RMSNorm::RMSNorm(const NormOptions& options) : epsilon_(options.epsilon) {
  check("RMSNorm", options);
  weight = add_parameter("weight", Tensor::ones({options.dim}));
}
Tensor RMSNorm::operator()(const Tensor& x) const { return rms_norm(x, weight, epsilon_); }

std::string_view name_of(NormKind kind) { return kind == NormKind::layer ? "layer" : "rms"; }
NormKind norm_kind_from_name(std::string_view name) {
  for (const NormKind kind : {NormKind::layer, NormKind::rms}) {
    if (name == name_of(kind)) return kind;
  }
  fail("norm_kind_from_name", "layer or rms", "got `" + std::string(name) + "`");
}

Norm::Norm(NormKind kind, const NormOptions& options) : kind_(kind), epsilon_(options.epsilon) {
  check("Norm", options);
  weight = add_parameter("weight", Tensor::ones({options.dim}));
  if (kind == NormKind::layer && options.bias) bias = add_parameter("bias", Tensor::zeros({options.dim}));
}
Tensor Norm::operator()(const Tensor& x) const {
  return kind_ == NormKind::layer ? layer_norm(x, weight, bias, epsilon_) : rms_norm(x, weight, epsilon_);
}

std::vector<ParameterRows> LayerNorm::own_roles() const { return detail::Told().all(*this, Role::norm).rows; }
std::vector<ParameterRows> RMSNorm::own_roles() const { return detail::Told().all(*this, Role::norm).rows; }
std::vector<ParameterRows> Norm::own_roles() const { return detail::Told().all(*this, Role::norm).rows; }

}  // namespace attune::nn

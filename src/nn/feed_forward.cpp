// FeedForward: contract(dropout(activation(expand(x)))); the activation runs inside the first product.
#include "attune/nn/feed_forward.hpp"
#include "nn/told.hpp"

namespace attune::nn {

FeedForward::FeedForward(const FeedForwardOptions& options)
    : expand({.in = options.model_dim,
              .out = options.hidden_dim,
              .bias = options.bias,
              .activation = options.activation,
              .init = options.init}),
      contract({.in = options.hidden_dim, .out = options.model_dim, .bias = options.bias, .init = options.init}),
      dropout(options.dropout) {
  add_module("expand", expand);
  add_module("contract", contract);
  add_module("dropout", dropout);
}

Tensor FeedForward::operator()(const Tensor& x) const { return contract(dropout(expand(x))); }

std::vector<ParameterRows> FeedForward::own_roles() const { return detail::Told().all(*this, Role::mlp).rows; }

}  // namespace attune::nn

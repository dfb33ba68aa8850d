// Embedding: a learned row for every id, multiplied by a constant.
#include "attune/nn/embedding.hpp"

#include <cmath>
#include <string>

#include "attune/autograd/ops/embedding.hpp"
#include "attune/base/error.hpp"
#include "nn/told.hpp"

namespace attune::nn {

Embedding::Embedding(const EmbeddingOptions& options) : scale_(options.scale) {
  if (options.num_ids < 1 || options.dim < 1) {
    fail("Embedding", "num_ids and dim of at least 1",
         "got " + std::to_string(options.num_ids) + " and " + std::to_string(options.dim));
  }
  Initializer init = options.init;
  if (init.kind == Init::normal && init.gain == 0) init.gain = 1 / std::sqrt(double(options.dim));
  weight = add_parameter("weight", make_parameter({options.num_ids, options.dim}, init));
}

Tensor Embedding::operator()(const Ids& ids) const { return embedding(ids, weight, scale_); }

std::vector<ParameterRows> Embedding::own_roles() const { return detail::Told().all(*this, Role::embedding).rows; }

}  // namespace attune::nn

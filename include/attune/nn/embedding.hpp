// Embedding: a learned row for every id.
#pragma once
#include "attune/nn/init.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

struct EmbeddingOptions {
  std::int64_t num_ids = 0, dim = 0;
  double scale = 1;                      // multiplies the rows: sqrt(dim) in "Attention is all you need"
  Initializer init = {Init::normal, 0};  // gain 0: standard deviation dim^-0.5
};

/// weight [num_ids, dim].
class Embedding : public Module {
 public:
  explicit Embedding(const EmbeddingOptions&);
  /// ids [...] -> [..., dim]
  Tensor operator()(const Ids& ids) const;
  std::vector<ParameterRows> own_roles() const override;

  Tensor weight;

 private:
  double scale_;
};

}  // namespace attune::nn

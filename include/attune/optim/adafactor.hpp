// Adafactor, "Adafactor: adaptive learning rates with sublinear memory cost", arXiv:1804.04235, as PyTorch defines it
// (t counts from 1). The second moment of a matrix [R, C] is kept as its row means r and column means c; tensors of
// higher rank are matrices of their first axes by the last two, vectors are not factored.
//
//   b = 1 - t^beta2_decay;   r = b r + (1 - b) mean_j g_ij^2;   c = b c + (1 - b) mean_i g_ij^2
//   u = g / sqrt(max(r c^T / max(mean(r), e), e^2));   a = max(epsilon, rms(w)) min(lr, 1 / sqrt(t))
//   update = a u / max(1, rms(u) / threshold);   w = w (1 - lr weight_decay) - update
#pragma once
#include "attune/optim/optimizer.hpp"

namespace attune::optim {

struct AdafactorOptions {
  double learning_rate = 1e-2;
  Schedule schedule;
  double beta2_decay = -0.8;  // exponent of t, below 0
  double epsilon = 1e-3;      // least root mean square of the weights in the step size
  double least_square = 0;    // e; 0: the rounding unit of the dtype
  double threshold = 1;       // root mean square that an update is clipped to
  double weight_decay = 0;
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Adafactor : public Optimizer {
 public:
  Adafactor(std::vector<ParameterGroup> groups, const AdafactorOptions& options);
  Adafactor(const std::vector<Tensor>& parameters, const AdafactorOptions& options)
      : Adafactor(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "adafactor"; }

 protected:
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;

 private:
  /// Where a parameter's moments lie; its matrices follow each other.
  struct Place {
    std::int64_t matrices = 0, rows = 0, columns = 0;  // 0 matrices: a vector
    std::int64_t row = 0, column = 0, vector = 0;      // offsets, elements
  };
  template <class T>
  void propose_parameter(const Range& range, const Place& place);

  AdafactorOptions own_;
  std::vector<Place> places_;
  Tensor row_, column_, vector_;  // r, c of all matrices; second moments of vectors
};

}  // namespace attune::optim

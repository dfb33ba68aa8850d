// Muon, Jordan et al. 2024, https://kellerjordan.github.io/posts/muon: the momentum of a matrix, made nearly
// orthogonal, so that it moves all directions of the weights alike. What is no hidden matrix is updated by AdamW.
//
//   m = mu m + (1 - mu) g;   u = nesterov ? g + mu (m - g) : m
//   X = u / |u|, lying (rows <= columns; else transposed);   5 times: A = X X^T;  X = a X + (b A + c A^2) X
//   update = lr scale X;   w = w (1 - lr weight_decay) - update
//   scale: sqrt(max(1, R / C)) (`original`), 0.2 sqrt(max(R, C)) (`adamw`, arXiv:2502.16982), sqrt(R / C) (`spectral`)
//
// The rule for parameters: a tensor of rank 2 is a matrix; roles tell more: embeddings, positions, heads and what
// stages learn are not, and fused projections are the matrices they were fused from, one by one. All others get AdamW
// at the same learning rate; groups and row factors give them another.
#pragma once
#include <array>

#include "attune/optim/optimizer.hpp"

namespace attune::optim {

enum class MuonScale : std::uint8_t { original, adamw, spectral };
/// "original", "adamw", "spectral".
std::string_view name_of(MuonScale);
MuonScale muon_scale_from_name(std::string_view name);

struct MuonOptions {
  double learning_rate = 1e-3;
  Schedule schedule;
  double momentum = 0.95;
  bool nesterov = true;
  std::int64_t iterations = 5;
  std::array<double, 3> coefficients{3.4445, -4.7750, 2.0315};  // a, b, c
  MuonScale scale = MuonScale::original;
  double weight_decay = 0.1;
  std::array<double, 2> betas{0.9, 0.999};  // of AdamW
  double epsilon = 1e-8;                    // of AdamW
  double clip_norm = 0, clip_value = 0, clip_adaptive = 0, clip_zscore = 0;
};

class Muon : public Optimizer {
 public:
  Muon(std::vector<ParameterGroup> groups, const MuonOptions& options, const std::vector<ParameterRows>& roles = {});
  Muon(const std::vector<Tensor>& parameters, const MuonOptions& options)
      : Muon(std::vector<ParameterGroup>{{parameters}}, options) {}
  std::string_view kind() const override { return "muon"; }
  /// Whether parameter i is updated by Newton-Schulz.
  bool orthogonalizes(std::size_t i) const { return !blocks_[i].empty(); }

 protected:
  void propose_range(const Range& range) override;
  std::vector<std::pair<std::string, Tensor*>> arrays() override;

 private:
  struct Block {
    std::int64_t first, end;  // rows
  };
  template <class T>
  void propose_matrix(const Range& range, const Block& block);

  MuonOptions own_;
  std::vector<std::vector<Block>> blocks_;  // of each parameter; none: AdamW's
  std::vector<std::int64_t> rest_;          // where AdamW's parameters begin in second_
  Tensor first_, second_;                   // momenta or m, [n]; v of AdamW's parameters
  Tensor scratch_;                          // the matrices of an iteration
};

}  // namespace attune::optim

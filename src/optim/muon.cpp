// Muon: Newton-Schulz on the momentum of hidden matrices, AdamW on the rest.
#include "attune/optim/muon.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "kernels/matmul.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {
namespace {

constexpr std::array<std::string_view, 3> kScaleNames{"original", "adamw", "spectral"};

bool is_matrix_role(Role role) {
  return role == Role::other || role == Role::query || role == Role::key || role == Role::value ||
         role == Role::output || role == Role::mlp;
}

/// x becomes a x + (b A + c A A) x with A = x x^T, or x (b A + c A A) with A = x^T x where that is the smaller.
template <class T>
void newton_schulz(std::int64_t rows, std::int64_t columns, std::int64_t iterations, const std::array<double, 3>& k,
                   T* x, T* scratch) {
  const bool tall = rows > columns;
  const std::int64_t small = std::min(rows, columns), size = rows * columns;
  T *gram = scratch, *blend = gram + small * small, *next = blend + small * small;
  for (std::int64_t i = 0; i < iterations; ++i) {
    kernels::matmul<T>({.rows = small,
                        .columns = small,
                        .inner = std::max(rows, columns),
                        .a = x,
                        .a_stride = columns,
                        .transpose_a = tall,
                        .b = x,
                        .b_stride = columns,
                        .transpose_b = !tall,
                        .c = gram,
                        .c_stride = small});
    std::copy(gram, gram + small * small, blend);
    kernels::scale<T>(small * small, k[1], blend);
    kernels::matmul<T>({.rows = small,
                        .columns = small,
                        .inner = small,
                        .a = gram,
                        .a_stride = small,
                        .b = gram,
                        .b_stride = small,
                        .c = blend,
                        .c_stride = small,
                        .alpha = T(k[2]),
                        .accumulate = true});
    std::copy(x, x + size, next);
    kernels::scale<T>(size, k[0], next);
    kernels::matmul<T>({.rows = rows,
                        .columns = columns,
                        .inner = small,
                        .a = tall ? x : blend,
                        .a_stride = tall ? columns : small,
                        .b = tall ? blend : x,
                        .b_stride = columns,
                        .c = next,
                        .c_stride = columns,
                        .accumulate = true});
    std::copy(next, next + size, x);
  }
}

}  // namespace

std::string_view name_of(MuonScale scale) { return kScaleNames.at(std::size_t(scale)); }
MuonScale muon_scale_from_name(std::string_view name) {
  const auto found = std::find(kScaleNames.begin(), kScaleNames.end(), name);
  if (found == kScaleNames.end()) {
    fail("muon_scale_from_name", fmt::format("one of {}", fmt::join(kScaleNames, ", ")), fmt::format("got `{}`", name));
  }
  return MuonScale(found - kScaleNames.begin());
}

Muon::Muon(std::vector<ParameterGroup> groups, const MuonOptions& o, const std::vector<ParameterRows>& roles)
    : Optimizer(std::move(groups), detail::shared_options(o), {.decoupled_decay = true, .by_parameter = true}),
      own_(o),
      blocks_(parameters().size()),
      first_(make_array()) {
  detail::check_betas(o.betas);
  if (!(o.momentum >= 0 && o.momentum < 1)) fail("Muon", "`momentum` in [0, 1)", fmt::format("got {}", o.momentum));
  if (!(o.epsilon > 0)) fail("Muon", "`epsilon` above 0", fmt::format("got {}", o.epsilon));
  if (o.iterations < 0 || o.iterations > 100) {
    fail("Muon", "0 to 100 `iterations`", fmt::format("got {}", o.iterations));
  }
  std::int64_t scratch = 0, rest = 0;
  for (std::size_t i = 0; i < parameters().size(); ++i) {
    const Tensor& p = parameters()[i];
    std::vector<Block>& blocks = blocks_[i];
    if (p.rank() == 2 && p.size() > 0) {
      // Neighbouring rows of one role are one matrix, whatever heads they belong to.
      bool known = false, all_matrix = true;
      Role before = Role::other;
      for (const ParameterRows& r : roles) {
        if (!r.tensor.is(p)) continue;
        all_matrix = all_matrix && is_matrix_role(r.role);
        if (known && r.role == before && blocks.back().end == r.first) {
          blocks.back().end = r.end;
        } else {
          blocks.push_back({r.first, r.end});
        }
        known = true;
        before = r.role;
      }
      if (!known) blocks.push_back({0, p.shape()[0]});
      if (!all_matrix) blocks.clear();
      std::int64_t covered = 0;
      for (const Block& b : blocks) covered += b.end - b.first;
      if (!blocks.empty() && covered != p.shape()[0]) {
        fail("Muon", fmt::format("roles for all {} rows of a parameter", p.shape()[0]), fmt::format("got {}", covered));
      }
    }
    rest_.push_back(rest);
    if (blocks.empty()) rest += p.size();
    for (const Block& b : blocks) {
      const std::int64_t rows = b.end - b.first, columns = p.shape()[1], small = std::min(rows, columns);
      scratch = std::max(scratch, rows * columns + 2 * small * small);
    }
  }
  if (rest > 0) second_ = Tensor::zeros({rest}, flat_.values.dtype());
  if (scratch > 0) scratch_ = Tensor::empty({scratch}, flat_.values.dtype());
}

void Muon::propose_range(const Range& r) {
  detail::typed("Muon", flat_.values.dtype(), [&]<class T>(T) {
    const std::int64_t n = r.end - r.begin;
    const T* grad = flat_.gradients.data<T>() + r.begin;
    T *first = first_.data<T>() + r.begin, *update = update_.data<T>() + r.begin;
    if (orthogonalizes(r.parameter)) {
      kernels::blend_momentum<T>(n, own_.momentum, own_.nesterov, r.grad_scale, grad, first, update);
      for (const Block& block : blocks_[r.parameter]) propose_matrix<T>(r, block);
    } else if (n > 0) {
      kernels::propose_adam<T>(n,
                               {.learning_rate = r.learning_rate,
                                .beta1 = own_.betas[0],
                                .beta2 = own_.betas[1],
                                .epsilon = own_.epsilon,
                                .step = step() + 1,
                                .grad_scale = r.grad_scale},
                               flat_.values.data<T>() + r.begin, grad, first, second_.data<T>() + rest_[r.parameter],
                               update);
    }
  });
}

template <class T>
void Muon::propose_matrix(const Range& r, const Block& block) {
  constexpr double kLeastNorm = 1e-7;
  const std::int64_t columns = parameters()[r.parameter].shape()[1], rows = block.end - block.first;
  T* x = update_.data<T>() + r.begin + block.first * columns;
  const double norm = std::sqrt(kernels::sum_of_squares<T>(rows * columns, x));
  kernels::scale<T>(rows * columns, 1 / std::max(norm, kLeastNorm), x);
  newton_schulz<T>(rows, columns, own_.iterations, own_.coefficients, x, scratch_.data<T>());
  const double tall = double(rows) / double(columns);
  double scale = std::sqrt(std::max(1.0, tall));
  if (own_.scale == MuonScale::adamw) scale = 0.2 * std::sqrt(double(std::max(rows, columns)));
  if (own_.scale == MuonScale::spectral) scale = std::sqrt(tall);
  kernels::scale<T>(rows * columns, r.learning_rate * scale, x);
}

std::vector<std::pair<std::string, Tensor*>> Muon::arrays() {
  if (!second_) return {{"first_moment", &first_}};
  return {{"first_moment", &first_}, {"second_moment", &second_}};
}

}  // namespace attune::optim

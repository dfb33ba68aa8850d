// The biases' way to their kernels, and what of them needs no template.
#include <cmath>

#include "attune/attention/bias/all.hpp"
#include "attune/base/rng.hpp"
#include "kernels/bias_tile.hpp"

namespace attune::detail {

void add_diagonals(const Tile<float>& x, const float* value) {
  kernels::add_diagonals(x.data, x.stride, x.area.keys, x.area.queries, value);
}
void add_diagonals(const Tile<double>& x, const double* value) {
  kernels::add_diagonals(x.data, x.stride, x.area.keys, x.area.queries, value);
}
void sum_diagonals(const Tile<float>& dx, float* sum) {
  kernels::sum_diagonals(dx.data, dx.stride, dx.area.keys, dx.area.queries, sum);
}
void sum_diagonals(const Tile<double>& dx, double* sum) {
  kernels::sum_diagonals(dx.data, dx.stride, dx.area.keys, dx.area.queries, sum);
}

void add_gumbel(const Tile<float>& x, int seed, float inverse) {
  const Area& a = x.area;
  kernels::add_gumbel(x.data, x.stride, a.keys, a.queries, {a.query, a.key, a.head, a.batch, std::uint32_t(seed)},
                      inverse);
}
std::array<double, 4> gumbel_noise(const Area& a, int i, int block, int seed) {
  const PhiloxCounter words =
      philox({std::uint32_t(a.query + i), std::uint32_t(block), std::uint32_t(a.head), std::uint32_t(a.batch)},
             {std::uint32_t(seed), 0x6d75});
  std::array<double, 4> noise;
  for (std::size_t n = 0; n < 4; ++n) {
    // -log(-log u). Near 1, where the large ones come from, log u is taken from 1 - u, which is exact.
    const double u = (words[n] + 0.5) * 0x1p-32, rest = (~words[n] + 0.5) * 0x1p-32;
    noise[n] = -std::log(u < 0.5 ? -std::log(u) : -std::log1p(-rest));
  }
  return noise;
}

namespace {
kernels::FireTile fire_tile(const FireNetwork& f, const Area& a) {
  return {a.keys, a.queries, f.hidden, f.tanh, f.p[0].value, f.p[1].value, f.p[2].value, f.psi, f.inverse};
}
}  // namespace
std::size_t fire_scratch(const Area& a, int hidden) { return kernels::fire_scratch(a.keys, a.queries, hidden); }
void add_fire(const FireNetwork& f, const Tile<float>& x, float* scratch) {
  kernels::add_fire(fire_tile(f, x.area), *f.p[3].value, x.data, x.stride, scratch);
}
void fire_backward(const FireNetwork& f, const Tile<float>& dx, float* dpsi, float* dinverse, float* scratch) {
  *f.p[3].grad += kernels::fire_backward(fire_tile(f, dx.area), dx.data, dx.stride,
                                         {f.p[0].grad, f.p[1].grad, f.p[2].grad, dpsi, dinverse}, scratch);
}

}  // namespace attune::detail

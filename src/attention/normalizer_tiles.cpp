// The normalizers' way to the kernels for this machine's instruction set.
#include "attune/attention/normalize/stick_breaking.hpp"
#include "attune/attention/normalize/threshold.hpp"
#include "kernels/stick_breaking.hpp"
#include "kernels/threshold.hpp"

namespace attune::detail {

void threshold_forward(float scale, Tile<float>& x, Rows<float>& r, Call<float>& call) {
  const int keys = x.area.keys;
  kernels::threshold_forward(scale, x.data, x.stride, keys, r.queries, r.max,
                             call.scratch(kernels::threshold_scratch(keys)));
}
void threshold_pairs(float scale, const Tile<float>& x, const Rows<float>& r, std::uint64_t* pairs) {
  kernels::threshold_pairs(scale, x.data, x.stride, x.area.keys, r.queries, r.stat, pairs);
}
void threshold_sweep(float scale, const Tile<float>& x, const Tile<float>& dp, Rows<float>& r, bool bends) {
  kernels::threshold_sweep(scale, x.data, dp.data, x.stride, x.area.keys, r.queries, r.stat,
                           {r.sum, r.first, bends ? r.max : nullptr, bends ? r.second : nullptr});
}
void threshold_backward(float scale, Tile<float>& x, Tile<float>& dp, const Rows<float>& r) {
  kernels::threshold_backward(scale, x.data, dp.data, x.stride, x.area.keys, r.queries, r.stat, r.delta);
}

void stick_breaking_forward(const Tile<float>& x, Rows<float>& r) {
  kernels::stick_breaking_forward(x.data, x.stride, x.area.keys, r.queries, r.sum);
}
void stick_breaking_backward(const Tile<float>& x, const Tile<float>& dp, Rows<float>& r) {
  kernels::stick_breaking_backward(x.data, dp.data, x.stride, x.area.keys, r.queries, r.sum, r.first, r.delta);
}

}  // namespace attune::detail

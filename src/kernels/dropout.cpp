// Philox 4x32-7 in vectors. A 64-bit lane holds one query's counter word in its lower half; what a product leaves in
// the upper half is ignored by the next product, so a round costs two multiplications, two shifts and four xors for
// each vector of queries, and one block of 128 bits serves eight keys.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dropout.cpp"
#include "kernels/dropout.hpp"

#include <algorithm>

#include "attune/base/dropout.hpp"
#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/dropout-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

void drop_f32(float* x, std::ptrdiff_t stride, const Dropped& at, int query0, int queries, int key0, int keys) {
  drop_tile(x, stride, at, query0, queries, key0, keys);
}
void drop_f64(double* x, std::ptrdiff_t stride, const Dropped& at, int query0, int queries, int key0, int keys) {
  drop_tile(x, stride, at, query0, queries, key0, keys);
}
void kept_bits_any(std::uint64_t* rows, const Dropped& at, int query0, int queries, int key0, int keys) {
  kept_tile(rows, at, query0, queries, key0, keys);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void drop(float* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold) {
  ATTUNE_DISPATCH(drop_f32)
  (x, stride, {seed, batch, head, threshold}, query0, queries, key0, keys);
}
void drop(double* x, std::ptrdiff_t stride, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
          int keys, std::uint32_t threshold) {
  ATTUNE_DISPATCH(drop_f64)
  (x, stride, {seed, batch, head, threshold}, query0, queries, key0, keys);
}

void kept_bits(std::uint64_t* rows, std::uint64_t seed, int batch, int head, int query0, int queries, int key0,
               int keys, std::uint32_t threshold) {
  ATTUNE_DISPATCH(kept_bits_any)(rows, {seed, batch, head, threshold}, query0, queries, key0, keys);
}

}  // namespace attune::kernels
#endif

// Dropout of consecutive elements, on the calling thread: a group of 512 elements is one tile of 8 keys x 64 queries of
// drop(), whose block number is the query. Which element takes which bits is stated in activation.hpp.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/dropout.hpp"

namespace attune::kernels {

constexpr std::int64_t kDropGroup = 512, kDropLanes = 64;

/// One group in place: x [512], element e of the group at x[e].
template <class T>
inline void drop_group(T* x, std::uint32_t threshold, std::uint64_t seed, std::uint64_t group) {
  const std::uint64_t block = group * kDropLanes;
  drop(x, kDropLanes, seed, 0, -1, int(std::uint32_t(block)), int(kDropLanes), int(block >> 32) * 8, 8, threshold);
}

/// f(first element of this call, count, dropped numbers) for every group that elements offset .. offset + n - 1 touch.
template <class T, class F>
inline void for_dropped_groups(std::int64_t n, const T* x, std::uint32_t threshold, std::uint64_t seed,
                               std::uint64_t offset, F&& f) {
  alignas(64) T buffer[kDropGroup] = {};
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t within = std::int64_t((offset + std::uint64_t(i)) % kDropGroup);
    const std::int64_t count = std::min(n - i, kDropGroup - within);
    std::copy(x + i, x + i + count, buffer + within);
    drop_group(buffer, threshold, seed, (offset + std::uint64_t(i)) / kDropGroup);
    f(i, count, buffer + within);
    i += count;
  }
}

/// y = dropped x. Whole groups are dropped where they go, without a detour through a buffer.
template <class T>
inline void drop_elements(std::int64_t n, const T* x, std::uint32_t threshold, std::uint64_t seed, std::uint64_t offset,
                          T* y) {
  const auto copy = [=](std::int64_t i, std::int64_t count) {
    if (x != y) std::copy(x + i, x + i + count, y + i);
  };
  if (threshold >= 65536) return copy(0, n);
  const std::int64_t head = std::min(n, (kDropGroup - std::int64_t(offset % kDropGroup)) % kDropGroup);
  const std::int64_t whole = (n - head) / kDropGroup * kDropGroup;
  const auto part = [=](std::int64_t begin, std::int64_t count) {
    for_dropped_groups(
        count, x + begin, threshold, seed, offset + std::uint64_t(begin),
        [=](std::int64_t i, std::int64_t m, const T* dropped) { std::copy(dropped, dropped + m, y + begin + i); });
  };
  part(0, head);
  for (std::int64_t i = head; i < head + whole; i += kDropGroup) {
    copy(i, kDropGroup);
    drop_group(y + i, threshold, seed, (offset + std::uint64_t(i)) / kDropGroup);
  }
  part(head + whole, n - head - whole);
}

/// y = base + dropped x.
template <class T>
inline void add_dropped_elements(std::int64_t n, const T* base, const T* x, std::uint32_t threshold, std::uint64_t seed,
                                 std::uint64_t offset, T* y) {
  if (threshold >= 65536) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = base[i] + x[i];
    return;
  }
  for_dropped_groups(n, x, threshold, seed, offset, [=](std::int64_t i, std::int64_t count, const T* dropped) {
    for (std::int64_t j = 0; j < count; ++j) y[i + j] = base[i + j] + dropped[j];
  });
}

}  // namespace attune::kernels

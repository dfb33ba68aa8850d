// Which pairs of query and key dropout keeps: a function of (seed, batch, head, query, key) alone, hence the same in
// forward and backward, for any tile, any number of threads and any instruction set. This is the definition; the
// kernels compute the same bits in vectors.
//
//   block  = Philox 4x32-7 with key = (seed low, seed high), counter = (query, key / 8, head, batch); 128 bits, 8 keys
//
//   bits   = the (key % 8)-th of the block's eight 16-bit numbers: word (key % 8) / 2, the low half first
//
//   kept iff bits < threshold, threshold = round((1 - p) * 65536)
//
//   weight = weight * 65536 / threshold if kept, else 0: the expectation is exact for the rounded p
//
// Dropout: Srivastava et al., JMLR 15 (2014). Philox: Salmon et al., SC11.
#pragma once
#include <cmath>
#include <cstdint>

#include "attune/base/rng.hpp"

namespace attune {

/// 65536 keeps everything. dropout_p in [0, 1) gives 1 .. 65536: a p so near to 1 that nothing would be kept keeps one
/// in 65536.
inline std::uint32_t dropout_threshold(double dropout_p) {
  const long rounded = std::lround((1.0 - dropout_p) * 65536.0);
  return rounded < 1 ? 1u : std::uint32_t(rounded);
}

/// What a kept weight is multiplied by.
constexpr double dropout_scale(std::uint32_t threshold) { return 65536.0 / double(threshold); }

/// The 16 random bits of one pair.
constexpr std::uint32_t dropout_bits(std::uint64_t seed, std::uint32_t batch, std::uint32_t head, std::uint32_t query,
                                     std::uint32_t key) {
  const PhiloxCounter block =
      philox<7>({query, key / 8, head, batch}, {std::uint32_t(seed), std::uint32_t(seed >> 32)});
  return (block[key % 8 / 2] >> (16 * (key % 2))) & 0xffffu;
}

/// True if the weight of this pair stays.
constexpr bool kept(std::uint64_t seed, std::uint32_t batch, std::uint32_t head, std::uint32_t query, std::uint32_t key,
                    std::uint32_t threshold) {
  return dropout_bits(seed, batch, head, query, key) < threshold;
}

}  // namespace attune

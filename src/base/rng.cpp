#include "attune/base/rng.hpp"

#include <cmath>
#include <numbers>

namespace attune {

std::uint32_t Generator::next_u32() {
  const std::uint64_t at = position_ / 4;
  if (at != block_at_) {
    block_ =
        philox<10>({std::uint32_t(at), std::uint32_t(at >> 32), std::uint32_t(stream_), std::uint32_t(stream_ >> 32)},
                   {std::uint32_t(seed_), std::uint32_t(seed_ >> 32)});
    block_at_ = at;
  }
  return block_[position_++ % 4];
}

std::uint64_t Generator::next_u64() {
  const std::uint64_t low = next_u32();
  return low | (std::uint64_t(next_u32()) << 32);
}

double Generator::uniform() { return double(next_u64() >> 11) * 0x1p-53; }

double Generator::normal() {
  const double u = 1.0 - uniform(), v = uniform();  // u in (0, 1]: its logarithm is finite
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

std::uint64_t Generator::below(std::uint64_t n) {
  // Rejection of the last, incomplete multiple of n.
  const std::uint64_t limit = ~std::uint64_t(0) - (~std::uint64_t(0) % n + 1) % n;
  std::uint64_t x;
  do {
    x = next_u64();
  } while (x > limit);
  return x % n;
}

}  // namespace attune

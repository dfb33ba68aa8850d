// Random numbers as a function of a counter: Philox 4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC11). A number depends on (seed, position) alone, so it is the same for any thread count, order or instruction set,
// and a generator is resumed by writing down two integers.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace attune {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

/// One block of four 32-bit words. 10 rounds is the published default; 7 are the fewest that pass BigCrush.
template <int kRounds = 10>
constexpr PhiloxCounter philox(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t a = 0xD2511F53ull * counter[0], b = 0xCD9E8D57ull * counter[2];
    counter = {std::uint32_t(b >> 32) ^ counter[1] ^ key[0], std::uint32_t(b),
               std::uint32_t(a >> 32) ^ counter[3] ^ key[1], std::uint32_t(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// A stream of numbers. Its whole state is (seed, stream, position): save those, and it goes on where it stopped.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t stream() const { return stream_; }
  /// 32-bit words taken so far.
  std::uint64_t position() const { return position_; }
  void set_position(std::uint64_t words) { position_ = words; }

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Standard normal by Box-Muller; takes four words a call, so the position stays a function of the call count.
  double normal();
  /// Uniform in 0 .. n-1 without bias. n > 0.
  std::uint64_t below(std::uint64_t n);

  /// Fisher-Yates; the permutation depends on (seed, stream, position) alone.
  template <class Vector>
  void shuffle(Vector& v) {
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[std::size_t(below(i))]);
  }

 private:
  std::uint64_t seed_, stream_, position_ = 0;
  std::uint64_t block_at_ = ~std::uint64_t(0);  // which block `block_` holds
  PhiloxCounter block_{};
};

}  // namespace attune

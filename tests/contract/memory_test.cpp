// Memory of a forward and a backward pass, counted in bytes: it grows with the number of tokens, not with its square.
// The counting is done by operator new of this program, so everything that the library allocates is in it.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "attune/attention/mechanisms.hpp"
#include "attune/base/cpu.hpp"
#include "attune/base/parallel.hpp"
#include "contract/covering.hpp"

namespace {

std::atomic<std::int64_t> live_bytes{0}, most_bytes{0};

void* take(std::size_t n, std::size_t alignment) {
  void* p = alignment > alignof(std::max_align_t)
                ? std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment)
                : std::malloc(n ? n : 1);
  if (!p) throw std::bad_alloc();
  const std::int64_t now = live_bytes += std::int64_t(malloc_usable_size(p));
  std::int64_t most = most_bytes;
  while (now > most && !most_bytes.compare_exchange_weak(most, now)) {
  }
  return p;
}
void give(void* p) noexcept {
  if (p) live_bytes -= std::int64_t(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(std::size_t n) { return take(n, 0); }
void* operator new[](std::size_t n) { return take(n, 0); }
void* operator new(std::size_t n, std::align_val_t a) { return take(n, std::size_t(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return take(n, std::size_t(a)); }
void operator delete(void* p) noexcept { give(p); }
void operator delete[](void* p) noexcept { give(p); }
void operator delete(void* p, std::size_t) noexcept { give(p); }
void operator delete[](void* p, std::size_t) noexcept { give(p); }
void operator delete(void* p, std::align_val_t) noexcept { give(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give(p); }

namespace attune::contract {
namespace {

constexpr int kWidth = 8;
constexpr int kBytesAToken = 2048, kFixedBytes = 2 << 20;

/// Peak of the bytes that one forward and one backward pass take beside what the caller holds, [1, 1, tokens, 8].
std::int64_t extra_bytes(int tokens, const AttendOptions& options) {
  const Shape shape{1, 1, tokens, kWidth}, row{1, 1, tokens};
  const std::size_t rows = std::size_t(tokens), n = rows * kWidth;
  std::vector<float> query(n, 0.1f), key(n, 0.2f), value(n, 0.3f), out(n), lse(rows), dout(n, 0.5f);
  std::vector<float> dquery(n), dkey(n), dvalue(n);
  AttendInputs in{ConstView(query.data(), shape), ConstView(key.data(), shape), ConstView(value.data(), shape), {}};
  AttendGradients gradients{View(dquery.data(), shape), View(dkey.data(), shape), View(dvalue.data(), shape), {}};
  std::vector<std::vector<float>> learned, dlearned;
  for (const AttendParameter& p : attend_parameters(options, {1, 1, 1, tokens, tokens, kWidth, kWidth, kWidth})) {
    learned.emplace_back(std::size_t(p.shape.size()), 0.6f);
    dlearned.emplace_back(std::size_t(p.shape.size()));
    in.parameters.emplace_back(learned.back().data(), p.shape);
    gradients.parameters.emplace_back(dlearned.back().data(), p.shape);
  }
  std::int64_t extra = 0;
  // On a thread of its own: the tiles that a thread keeps between calls go with it, so every call starts from nothing.
  std::thread([&] {
    const std::int64_t before = live_bytes;
    most_bytes = before;
    attend_forward(in, {.out = View(out.data(), shape), .lse = View(lse.data(), row)}, options);
    attend_backward(
        in,
        {.out = ConstView(out.data(), shape), .lse = ConstView(lse.data(), row), .dout = ConstView(dout.data(), shape)},
        gradients, options);
    extra = most_bytes - before;
  }).join();
  return extra;
}

TEST(Memory, GrowsWithTheTokensAndNotWithTheirSquare) {
  const int threads = num_threads();
  set_num_threads(1);
  const std::pair<const char*, AttendOptions> calls[] = {
      {"plain, causal", {.mask = Causal{}}},
      {"soft cap + alibi, causal", {.bias = {SoftCap{.cap = 30}, Alibi{}}, .mask = Causal{}}},
      {"rotary, sink, window",
       {.position = Rotary{}, .mask = Window{.left = 512, .right = 0}, .normalizer = SoftmaxWithSink{}}},
      {"sparsemax, causal", {.mask = Causal{}, .normalizer = Sparsemax{}}}};
  for (const auto& [name, options] : calls) {
    std::vector<std::pair<int, std::int64_t>> points;
    for (const int tokens : full_run() ? std::vector<int>{1024, 8192, 32768} : std::vector<int>{1024, 8192}) {
      points.emplace_back(tokens, extra_bytes(tokens, options));
      const Explanation said = explain({1, 1, 1, tokens, tokens, kWidth, kWidth, kWidth}, DType::float32, options);
      std::printf("%-26s %6d tokens: %9lld bytes, explain says %9lld + %9lld\n", name, tokens,
                  static_cast<long long>(points.back().second), static_cast<long long>(said.forward_bytes),
                  static_cast<long long>(said.backward_bytes));
      // A vector that grows doubles its memory, so up to twice what is said, and something small of fixed size.
      EXPECT_LE(points.back().second, 2 * (said.forward_bytes + said.backward_bytes) + (64 << 10)) << name;
    }
    for (std::size_t n = 1; n < points.size(); ++n) {
      const double growth = double(points[n].first) / points[n - 1].first;
      // One byte for each pair would be 64 MiB at 8,192 tokens.
      EXPECT_LE(double(points[n].second), 1.1 * growth * double(points[n - 1].second)) << name;
      EXPECT_GT(points[n - 1].second, 1024) << name;  // or nothing was counted
    }
  }
  set_num_threads(threads);
}

/// The stage alone, where a name and options make it. In the long run a band, for the time that it takes, and one row
/// that sees every key: a tile of whole rows is as tall as without the band.
AttendOptions alone(const Mechanism& m, int tokens) {
  const AttendShape shape{1, 1, 1, tokens, tokens, kWidth, kWidth, kWidth};
  AttendOptions o;
  if (m.kind == "position") o.position = position_named(m.name, {}, shape);
  if (m.kind == "score") o.score = score_named(m.name, {}, shape);
  if (m.kind == "bias") o.bias = bias_named(m.name, {}, shape);
  if (m.kind == "mask") o.mask = mask_named(m.name, {}, shape);
  if (m.kind == "normalizer") o.normalizer = normalizer_named(m.name, {}, shape);
  if (tokens > 2048) o.mask = o.mask & AnyMask(Longformer{.half_window = 512, .global_tokens = {0}});
  return o;
}

TEST(Memory, OfEveryMechanismGrowsWithTheTokens) {
  const int threads = num_threads();
  set_num_threads(1);
  int measured = 0;
  for (const Mechanism& m : mechanisms()) {
    // A dense bias is a number for every pair already where the caller holds it.
    if (!m.by_name || (m.kind == "bias" && m.name == "dense")) continue;
    const bool long_run = full_run() && cpu_target() != CpuTarget::scalar;
    const int few = long_run ? 4096 : 128, many = long_run ? 32768 : 1024;
    const std::int64_t some = extra_bytes(few, alone(m, few)), most = extra_bytes(many, alone(m, many));
    if (long_run) {
      std::printf("%-10s %-20s %6d tokens: %9lld bytes\n", m.kind.c_str(), m.name.c_str(), many,
                  static_cast<long long>(most));
    }
    EXPECT_LE(double(most), 1.1 * many / few * double(some)) << m.kind << " " << m.name;
    // A tenth of a byte for each pair would be more than this.
    EXPECT_LE(most, std::int64_t(kBytesAToken) * many + kFixedBytes) << m.kind << " " << m.name;
    EXPECT_GT(some, 1024) << m.name;
    ++measured;
  }
  EXPECT_GT(measured, 15);
  set_num_threads(threads);
}

}  // namespace
}  // namespace attune::contract

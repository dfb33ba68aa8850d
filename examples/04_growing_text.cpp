// Text that grows token by token: a cache keeps the keys and values of the past, one token is attended to at a time,
// and every step gives what a pass over the whole text would. Then a batch of texts of different lengths, without
// padding.
#include <attune/attention/attention.hpp>
#include <attune/base/rng.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

using namespace attune;

namespace {
constexpr int kHeads = 8, kKeyHeads = 2, kWidth = 32, kTokens = 100;

std::vector<float> numbers(int count, std::uint64_t seed) {
  Generator generator(seed);
  std::vector<float> v(static_cast<std::size_t>(count));
  for (float& x : v) x = float(generator.uniform(-1, 1));
  return v;
}
/// Tokens first .. first + n - 1 of [1, heads, kTokens, kWidth] memory.
ConstView tokens(const std::vector<float>& v, int heads, int first, int n) {
  const ConstView all(v.data(), {1, heads, kTokens, kWidth});
  return ConstView(v.data() + first * kWidth, DType::float32, {1, heads, n, kWidth}, all.strides);
}
}  // namespace

int main() {
  const std::vector<float> query = numbers(kHeads * kTokens * kWidth, 1),
                           key = numbers(kKeyHeads * kTokens * kWidth, 2),
                           value = numbers(kKeyHeads * kTokens * kWidth, 3);
  std::vector<float> whole(query.size()), grown(query.size());
  const auto out = [](std::vector<float>& v, int first, int n) {
    const View all(v.data(), {1, kHeads, kTokens, kWidth});
    return View(v.data() + first * kWidth, DType::float32, {1, kHeads, n, kWidth}, all.strides);
  };
  attend_forward(
      {tokens(query, kHeads, 0, kTokens), tokens(key, kKeyHeads, 0, kTokens), tokens(value, kKeyHeads, 0, kTokens), {}},
      {.out = out(whole, 0, kTokens)}, {.mask = Causal{}});

  // The first 60 tokens at once, the others one by one.
  KvCache cache({.num_kv_heads = kKeyHeads, .head_dim = kWidth});
  const int text = cache.add();
  for (int first = 0, n = 60; first < kTokens; first += n, n = 1) {
    cache.append({text}, tokens(key, kKeyHeads, first, n), tokens(value, kKeyHeads, first, n));
    attend_forward(tokens(query, kHeads, first, n), cache, {text}, {.out = out(grown, first, n)});
  }
  float worst = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, std::abs(whole[i] - grown[i]));
  std::printf("%lld tokens in %lld bytes, largest difference %.1e\n", static_cast<long long>(cache.length(text)),
              static_cast<long long>(cache.bytes_in_use()), double(worst));
  if (!(worst < 1e-5f)) return 1;

  // Three texts of 10, 55 and 35 tokens end to end: nobody sees another's keys, and nothing is padded.
  std::vector<float> texts(query.size());
  attend_forward(
      {tokens(query, kHeads, 0, kTokens), tokens(key, kKeyHeads, 0, kTokens), tokens(value, kKeyHeads, 0, kTokens), {}},
      {.out = out(texts, 0, kTokens)}, {.mask = Causal{}, .sequences = {{0, 10, 65, 100}, {}}});
  float first_text = 0;
  for (int h = 0; h < kHeads; ++h) {
    for (int i = 0; i < 10 * kWidth; ++i) {
      const std::size_t at = std::size_t(h * kTokens * kWidth + i);
      first_text = std::max(first_text, std::abs(texts[at] - whole[at]));
    }
  }
  std::printf("the first text differs from the whole one by %.1e\n", double(first_text));
  return first_text < 1e-5f ? 0 : 1;
}

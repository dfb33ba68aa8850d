// What a user of the installed core sees: attention on plain memory. Every value row is the same, so whatever the
// weights are, their weighted mean is that row.
#include <attune/attention/attention.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  using namespace attune;
  const Shape shape{1, 2, 5, 4};  // [B, H, T, D]
  std::vector<float> query(40), key(40), value(40), out(40, -1.0f);
  for (int i = 0; i < 40; ++i) {
    query[std::size_t(i)] = 0.1f * float(i % 7);
    key[std::size_t(i)] = 0.2f * float(i % 5);
    value[std::size_t(i)] = float(i % 4);
  }
  attend_forward({.query = ConstView(query.data(), shape),
                  .key = ConstView(key.data(), shape),
                  .value = ConstView(value.data(), shape),
                  .parameters = {}},
                 {.out = View(out.data(), shape), .lse = {}, .entropy = {}}, {.mask = Causal{}});
  for (int i = 0; i < 40; ++i)
    if (std::fabs(out[std::size_t(i)] - float(i % 4)) > 1e-5f) {
      std::printf("element %d: expected %d, got %g\n", i, i % 4, double(out[std::size_t(i)]));
      return 1;
    }
  std::puts("attune works from outside");
}

// Attention on memory of yours: no tensors, no graph, no copies. Forward, then the exact gradients.
//
//     out = softmax(causal(query . key^T / sqrt(D))) . value          query, key, value [B, T, H, D] as many programs
//                                                                     keep them: tokens outside, heads inside
#include <attune/attention/attention.hpp>
#include <attune/base/rng.hpp>
#include <cstdio>
#include <vector>

using namespace attune;

int main() {
  const int batch = 2, tokens = 100, heads = 4, dim = 32;
  const Shape memory{batch, tokens, heads, dim};
  Generator random(1);
  const auto normal = [&] {
    std::vector<float> x(std::size_t(memory.size()));
    for (float& e : x) e = float(random.normal());
    return x;
  };
  std::vector<float> query = normal(), key = normal(), value = normal(), dout = normal();
  std::vector<float> out(query.size()), lse(std::size_t(batch) * heads * tokens);

  // The engine wants [B, H, T, D]; exchanging two axes of a view changes strides and moves no number.
  const auto heads_first = [&](std::vector<float>& x) { return View(x.data(), memory).transposed(1, 2); };
  const AttendInputs inputs{.query = heads_first(query), .key = heads_first(key), .value = heads_first(value)};
  const AttendOptions options{.mask = Causal{}};
  const View lse_view(lse.data(), {batch, heads, tokens});
  Statistics statistics;
  attend_forward(inputs, {.out = heads_first(out), .lse = lse_view, .statistics = &statistics}, options);
  std::printf("entropy of head 0: %.3f nats; the largest logit: %.2f\n", statistics.entropy[0],
              statistics.largest_logit[0]);

  // Gradients are added to, so they start at 0. Nothing of size T x T was kept: logits are computed again, tile by
  // tile.
  std::vector<float> dquery(query.size()), dkey(key.size()), dvalue(value.size());
  attend_backward(inputs, {.out = heads_first(out), .lse = lse_view, .dout = heads_first(dout)},
                  {.query = heads_first(dquery), .key = heads_first(dkey), .value = heads_first(dvalue)}, options);

  // The first query sees the first key alone: its output is that value row, and it has no say in the matter.
  for (int d = 0; d < dim; ++d) {
    if (std::abs(out[std::size_t(d)] - value[std::size_t(d)]) > 1e-6f || std::abs(dquery[std::size_t(d)]) > 1e-5f) {
      std::printf("element %d: expected out = value and no gradient, got %g, %g and %g\n", d,
                  double(out[std::size_t(d)]), double(value[std::size_t(d)]), double(dquery[std::size_t(d)]));
      return 1;
    }
  }
  std::puts("the first token sees itself alone, as it should");
}

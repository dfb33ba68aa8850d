// Toy calls: shapes, surroundings, numbers.
#include "attention/check_parts.hpp"
#include "attune/attention/bias/soft_cap.hpp"
#include "attune/attention/formulas/normalizers.hpp"
#include "attune/attention/formulas/scores.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/normalize/softmax_with_sink.hpp"
#include "attune/base/dropout.hpp"

namespace attune::checking {

/// Shapes that differ in what goes wrong easily: grouped heads, one key head, few queries, more queries than keys, and
/// more than one tile of the engine's own size.
std::vector<AttendShape> toy_shapes() {
  const auto shape = [](int b, int h, int hkv, int tq, int tk, int d, int dv) {
    return AttendShape{b, h, hkv, tq, tk, d, d, dv};
  };
  return {shape(2, 4, 2, 7, 11, 6, 3), shape(1, 3, 3, 9, 9, 4, 5), shape(2, 2, 1, 2, 10, 6, 4),
          shape(1, 2, 1, 9, 4, 4, 2), shape(1, 2, 2, 70, 70, 4, 2)};
}

static constexpr std::uint64_t kDropoutSeed = 20240917;

static formula::BiasFormula cap_formula(double cap) {
  return [=](const formula::Pair&, auto x, auto) {
    using S = decltype(x);
    return S(cap) * tanh(x / S(cap));
  };
}

ToyCall make_toy(const AttendOptions& given, const PlainStages& plain, const StageCheck& check,
                 const AttendShape& shape, Around around, Generator& random) {
  ToyCall c{given, {}, {}, {}, {}};
  formula::Problem& p = c.plain;
  p.shape = shape;
  p.position = plain.position;
  p.score = plain.score;
  p.bias = plain.bias;
  p.normalizer = plain.normalizer;
  if (const auto* dot = given.score.as<ScaledDot>(); dot && !p.score) p.score = formula::scaled_dot(dot->scale);
  if (given.normalizer.as<Softmax>() && !p.normalizer) p.normalizer = formula::softmax();
  if (around == Around::causal_and_cap) {
    c.options.alignment = Alignment::bottom_right;
    p.offset.assign(std::size_t(shape.batch_size), shape.num_keys - shape.num_queries);
    c.options.mask = c.options.mask & AnyMask(Causal{});
    c.options.bias.push_back(SoftCap{.cap = 3});
    p.bias.push_back(cap_formula(3));
  }
  if (around == Around::sink_and_dropout) {
    if (given.normalizer.as<Softmax>()) {
      c.options.normalizer = SoftmaxWithSink{};
      p.normalizer = formula::softmax_with_sink();
    }
    c.options.dropout_p = 0.3;
    c.options.seed = kDropoutSeed;
    const std::uint32_t threshold = dropout_threshold(0.3);
    p.kept = [threshold](int b, int h, int i, int j) {
      const bool stays =
          kept(kDropoutSeed, std::uint32_t(b), std::uint32_t(h), std::uint32_t(i), std::uint32_t(j), threshold);
      return stays ? dropout_scale(threshold) : 0.0;
    };
  }
  if (plain.mask || around == Around::causal_and_cap) {
    p.visible = [shape, mask = plain.mask, offset = p.offset, around](int b, int h, int i, int j) {
      const formula::Pair at{&shape, b, h, h / shape.group(), i, j, offset.empty() ? 0 : offset[std::size_t(b)]};
      return (!mask || mask(at)) && (around != Around::causal_and_cap || j <= at.position());
    };
  }
  const auto arrays = [&](const auto& stage) {
    return stage ? stage.template on<double>()->parameters(shape).size() : std::size_t(0);
  };
  p.position_arrays = arrays(c.options.position);
  p.score_arrays = arrays(c.options.score);
  for (const AnyBias& b : c.options.bias) p.bias_arrays.push_back(arrays(b));
  p.normalizer_arrays = arrays(c.options.normalizer);

  const auto draw = [&](std::int64_t size, double low, double high) {
    std::vector<double> v(std::size_t(size), 0.0);
    for (double& x : v) x = double(float(random.uniform(low, high)));  // float32 holds it exactly
    return v;
  };
  const std::int64_t b = shape.batch_size, h = shape.num_heads, hkv = shape.num_kv_heads, tq = shape.num_queries;
  c.in = {draw(b * h * tq * shape.query_dim, -1.5, 1.5), draw(b * hkv * shape.num_keys * shape.key_dim, -1.5, 1.5),
          draw(b * hkv * shape.num_keys * shape.value_dim, -1, 1)};
  for (const AttendParameter& array : attend_parameters(c.options, shape)) {
    const auto range = check.ranges.find(array.name);
    const bool own = range != check.ranges.end();
    c.in.push_back(draw(array.shape.size(), own ? range->second.first : -1, own ? range->second.second : 1));
  }
  c.dout = draw(b * h * tq * shape.value_dim, -1, 1);
  if (c.options.normalizer.on<double>()->gives_lse()) c.dlse = draw(b * h * tq, -1, 1);
  return c;
}

}  // namespace attune::checking

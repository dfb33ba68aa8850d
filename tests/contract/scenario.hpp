// The tables of variants together: how a Case becomes a Scenario with numbers.
#pragma once
#include <algorithm>

#include "attune/attention/attention.hpp"
#include "attune/attention/formulas/normalizers.hpp"
#include "attune/attention/formulas/scores.hpp"
#include "attune/base/dropout.hpp"
#include "contract/variants/masks.hpp"

namespace attune::contract {

// The tables with plain formulas, each compiled once (variants/): a formula is made for five scalars.
const Variants& positions();
const Variants& scores();
const Variants& biases();
const Variants& normalizers();
/// Whether a position of this name can stand in a call of this shape; negative: queries stand before the first key.
bool position_fits(const std::string& name, const AttendShape& s, bool negative);

inline const Variants& shapes() {
  auto shape = [](int b, int h, int hkv, int tq, int tk, int d, int dv) {
    return [=](Scenario& s) { s.shape = {b, h, hkv, tq, tk, d, d, dv}; };
  };
  static const Variants all = {{"grouped heads", shape(2, 4, 2, 7, 11, 6, 3)},
                               {"square", shape(1, 3, 3, 9, 9, 4, 5)},
                               {"one key head", shape(3, 2, 1, 5, 13, 8, 1)},
                               {"two queries", shape(2, 2, 2, 2, 10, 6, 4)},
                               {"more queries than keys", shape(1, 2, 1, 9, 4, 4, 2)}};
  return all;
}

inline const Variants& dropouts() {
  static const Variants all = {{"none", [](Scenario&) {}},
                               {"dropout", [](Scenario& s) {
                                  s.options.dropout_p = 0.3;
                                  s.options.seed = 20240917;
                                  const std::uint32_t threshold = dropout_threshold(0.3);
                                  s.reference.keep_factor = [threshold](int b, int h, int i, int j) {
                                    const bool stays = kept(20240917, std::uint32_t(b), std::uint32_t(h),
                                                            std::uint32_t(i), std::uint32_t(j), threshold);
                                    return stays ? dropout_scale(threshold) : 0.0;
                                  };
                                }}};
  return all;
}

/// Which incoming gradients the backward pass is given.
inline const Variants& upstreams() {
  static const Variants all = {
      {"dout", [](Scenario&) {}},
      {"dout+dlse", [](Scenario& s) { s.wants_dlse = s.gives_lse(); }},
      {"dout+dlse+dentropy", [](Scenario& s) { s.wants_dlse = s.wants_dentropy = s.gives_lse(); }}};
  return all;
}

inline const Variants& variants(int factor) {
  switch (Case::Factor(factor)) {
    case Case::shape:
      return shapes();
    case Case::position:
      return positions();
    case Case::score:
      return scores();
    case Case::bias:
      return biases();
    case Case::mask:
      return masks();
    case Case::normalizer:
      return normalizers();
    case Case::dropout:
      return dropouts();
    default:
      return upstreams();
  }
}

/// Uniform numbers that float32 holds exactly.
inline std::vector<double> random_numbers(Generator& g, std::size_t n, double low, double high) {
  std::vector<double> v(n);
  for (double& x : v) x = double(float(g.uniform(low, high)));
  return v;
}

/// Draws query, key, value, parameters and incoming gradients for the call that s describes.
inline void draw_numbers(Scenario& s) {
  const AttendShape& a = s.shape;
  s.reference.shape = {a.batch_size, a.num_heads, a.num_kv_heads, a.num_queries,
                       a.num_keys,   a.query_dim, a.key_dim,      a.value_dim};
  // A test that fills few blanks leaves the others as AttendOptions has them.
  if (!s.plain.score) s.plain.score = formula::scaled_dot(s.reference.scale);
  if (!s.plain.normalizer) s.plain.normalizer = formula::softmax();
  s.plain.shape = a;
  s.plain.offset = s.reference.offset;
  s.plain.visible = s.reference.visible;
  s.plain.kept = s.reference.keep_factor;
  const auto arrays = [&](const auto& stage) {
    return stage ? stage.template on<double>()->parameters(a).size() : std::size_t(0);
  };
  s.plain.position_arrays = arrays(s.options.position);
  s.plain.score_arrays = arrays(s.options.score);
  for (const AnyBias& b : s.options.bias) s.plain.bias_arrays.push_back(arrays(b));
  s.plain.normalizer_arrays = arrays(s.options.normalizer);

  const auto draw = [&](std::int64_t size, double low, double high) {
    s.in.push_back(random_numbers(s.random, std::size_t(size), low, high));
  };
  const std::int64_t B = a.batch_size;
  draw(B * a.num_heads * a.num_queries * a.query_dim, -1.5, 1.5);
  draw(B * a.num_kv_heads * a.num_keys * a.key_dim, -1.5, 1.5);
  draw(B * a.num_kv_heads * a.num_keys * a.value_dim, -1, 1);
  for (const AttendParameter& p : attend_parameters(s.options, a)) {
    const auto range = s.ranges.find(p.name);
    const bool own = range != s.ranges.end();
    draw(p.shape.size(), own ? range->second.first : -1, own ? range->second.second : 1);
  }
  s.dout = random_numbers(s.random, s.rows() * std::size_t(a.value_dim), -1, 1);
  if (s.wants_dlse) s.dlse = random_numbers(s.random, s.rows(), -1, 1);
  if (s.wants_dentropy) s.dentropy = random_numbers(s.random, s.rows(), -1, 1);
}

/// Whether the blanks of a case go together: some positions need equal widths or a table that reaches far enough.
inline bool fits(const Case& c) {
  Scenario s;
  for (const int f : {Case::shape, Case::position, Case::score, Case::mask}) variants(f)[std::size_t(c.pick[f])].add(s);
  const bool negative = std::any_of(s.reference.offset.begin(), s.reference.offset.end(), [](int n) { return n < 0; });
  return position_fits(positions()[std::size_t(c[Case::position])].name, s.shape, negative);
}

inline Scenario make_scenario(const Case& c) {
  Scenario s;
  s.random = Generator(c.seed);
  for (int f = 0; f < Case::kFactors; ++f) {
    const Variant& v = variants(f)[std::size_t(c.pick[f])];
    v.add(s);
    s.names[f] = v.name;
  }
  draw_numbers(s);
  return s;
}

}  // namespace attune::contract

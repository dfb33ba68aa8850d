// One call described twice: for the engine (AttendOptions) and for the oracle (kernels::ReferenceProblem), and the
// tables of variants from which calls are put together. Each variant says both descriptions side by side.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/rng.hpp"
#include "contract/formula.hpp"
#include "kernels/reference.hpp"

namespace attune::contract {

/// How a call is put together: an index into each table below.
struct Case {
  enum Factor { shape, position, score, bias, mask, normalizer, dropout, upstream, kFactors };
  int pick[kFactors] = {};
  std::uint64_t seed = 1;
  int operator[](Factor f) const { return pick[f]; }
};

struct Scenario {
  AttendShape shape;
  AttendOptions options;
  kernels::ReferenceProblem reference;
  std::string names[Case::kFactors];  // of the mechanisms, "none" where there is none
  bool wants_dlse = false, wants_dentropy = false;
  Arrays<double> in;  // query, key, value, learned arrays; numbers that float32 holds exactly
  std::vector<double> dout, dlse, dentropy;
  Generator random{1};

  bool gives_lse() const { return options.normalizer.on<double>()->gives_lse(); }
  std::size_t rows() const { return std::size_t(shape.batch_size) * shape.num_heads * shape.num_queries; }
  std::string text() const {
    std::string t;
    for (const std::string& name : names) t += (t.empty() ? "" : " ") + name;
    return t;
  }
};

/// One way to fill a blank. `name` is the mechanism's name in mechanisms(); chains are joined by +, conjunctions by &.
struct Variant {
  std::string name;
  std::function<void(Scenario&)> add;
};
using Variants = std::vector<Variant>;

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

inline const Variants& positions() {
  using Kind = kernels::ReferencePosition;
  auto rotary = [](double base, int dim, bool interleaved) {
    return [=](Scenario& s) {
      s.options.position = Rotary{.base = base, .rotary_dim = dim, .interleaved = interleaved};
      s.reference.position = Kind::rotary;
      s.reference.position_base = base;
      s.reference.rotary_dim = dim;
      s.reference.interleaved = interleaved;
    };
  };
  static const Variants all = {{"none", [](Scenario&) {}},
                               {"sinusoidal",
                                [](Scenario& s) {
                                  s.options.position = Sinusoidal{.base = 500};
                                  s.reference.position = Kind::sinusoidal;
                                  s.reference.position_base = 500;
                                }},
                               {"learned",
                                [](Scenario& s) {
                                  s.reference.num_positions = s.shape.num_queries + s.shape.num_keys + 2;
                                  s.options.position = Learned{.num_positions = s.reference.num_positions};
                                  s.reference.position = Kind::learned;
                                }},
                               {"rotary", rotary(10000, 0, false)},
                               {"rotary", rotary(100, 0, true)},
                               {"rotary", rotary(100, 2, false)}};
  return all;
}

inline const Variants& scores() {
  auto additive = [](int wider) {
    return [=](Scenario& s) {
      s.shape.key_dim += wider;
      s.options.score = Additive{.hidden_dim = 5};
      s.reference.score = kernels::ReferenceScore::additive;
      s.reference.hidden_dim = 5;
    };
  };
  static const Variants all = {{"scaled_dot", [](Scenario&) {}},
                               {"scaled_dot",
                                [](Scenario& s) {
                                  s.options.score = ScaledDot{.scale = -0.7};
                                  s.reference.scale = -0.7;
                                }},
                               {"additive", additive(0)},
                               {"additive", additive(1)}};  // key_dim is not query_dim
  return all;
}

namespace detail {
inline void add_alibi(Scenario& s, bool learned) {
  s.options.bias.push_back(Alibi{.learned = learned});
  s.reference.bias.push_back({.kind = learned ? kernels::ReferenceBias::learned_alibi : kernels::ReferenceBias::alibi});
}
inline void add_cap(Scenario& s, double cap) {
  s.options.bias.push_back(SoftCap{.cap = cap});
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::soft_cap, .cap = cap});
}
inline void add_dense(Scenario& s, Per per, bool broadcast_queries = false) {
  s.options.bias.push_back(Dense{.per = per, .broadcast_queries = broadcast_queries});
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::dense,
                              .per_batch = per == Per::batch || per == Per::batch_head,
                              .per_head = per == Per::head || per == Per::batch_head,
                              .per_query = !broadcast_queries});
}
inline void add_own(Scenario& s) {
  s.options.bias.push_back(
      pointwise([](auto x, PairIndex at) { return own_bias(x, at.batch, at.head, at.query, at.key); }));
  s.reference.bias.push_back({.kind = kernels::ReferenceBias::pointwise,
                              .value = [](double x, int b, int h, int q, int k) { return own_bias(x, b, h, q, k); },
                              .derivative = own_bias_slope});
}
}  // namespace detail

inline const Variants& biases() {
  using namespace detail;
  static const Variants all = {
      {"none", [](Scenario&) {}},
      {"alibi", [](Scenario& s) { add_alibi(s, false); }},
      {"alibi", [](Scenario& s) { add_alibi(s, true); }},
      {"soft_cap", [](Scenario& s) { add_cap(s, 1.5); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::head); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::call); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::batch, true); }},
      {"dense", [](Scenario& s) { add_dense(s, Per::batch_head); }},
      {"pointwise", [](Scenario& s) { add_own(s); }},
      {"soft_cap+alibi", [](Scenario& s) { add_cap(s, 2), add_alibi(s, false); }},
      {"pointwise+soft_cap+dense", [](Scenario& s) { add_own(s), add_cap(s, 3), add_dense(s, Per::head, true); }},
      {"alibi+dense+soft_cap", [](Scenario& s) { add_alibi(s, true), add_dense(s, Per::call), add_cap(s, 2.5); }}};
  return all;
}

namespace detail {
using Visible = std::function<bool(int, int, int, int)>;
inline void add_mask(Scenario& s, AnyMask mask, Visible visible) {
  s.options.mask = s.options.mask & mask;
  const Visible before = s.reference.visible;
  s.reference.visible =
      before ? Visible([=](int b, int h, int i, int j) { return before(b, h, i, j) && visible(b, h, i, j); }) : visible;
}
/// -1: unbounded. The alignment must be set before.
inline void add_window(Scenario& s, AnyMask mask, int left, int right) {
  const std::vector<int> offset = s.reference.offset;
  add_mask(s, std::move(mask), [=](int b, int, int i, int j) {
    const int p = i + (offset.empty() ? 0 : offset[std::size_t(b)]);
    return (left < 0 || j >= p - left) && (right < 0 || j <= p + right);
  });
}
/// The first entry of the batch sees all keys but two, the next half of them, the third none.
inline void add_padding(Scenario& s) {
  std::vector<int> valid;
  for (int b = 0; b < s.shape.batch_size; ++b) {
    valid.push_back(b == 0 ? s.shape.num_keys - 2 : b == 1 ? s.shape.num_keys / 2 : 0);
  }
  add_mask(s, Padding{valid}, [valid](int b, int, int, int j) { return j < valid[std::size_t(b)]; });
}
/// Random bits over the axes that the shape names; the last axis may end early.
inline void add_dense_mask(Scenario& s, bool per_batch, bool per_head, bool per_query, int shorter) {
  const int B = per_batch ? s.shape.batch_size : 1, H = per_head ? s.shape.num_heads : 1;
  const int Q = per_query ? s.shape.num_queries : 1, K = s.shape.num_keys - shorter;
  auto bits = std::make_shared<std::vector<std::uint8_t>>();
  for (int n = 0; n < B * H * Q * K; ++n) bits->push_back(s.random.uniform() < 0.6);
  add_mask(s, DenseMask(bits->data(), {B, H, Q, K}), [=](int b, int h, int i, int j) {
    const int at = (((per_batch ? b : 0) * H + (per_head ? h : 0)) * Q + (per_query ? i : 0)) * K + j;
    return j < K && (*bits)[std::size_t(at)] != 0;
  });
}
}  // namespace detail

inline const Variants& masks() {
  using namespace detail;
  static const Variants all = {{"none", [](Scenario&) {}},
                               {"causal", [](Scenario& s) { add_window(s, Causal{}, -1, 0); }},
                               {"causal",
                                [](Scenario& s) {
                                  s.options.alignment = Alignment::bottom_right;
                                  s.reference.offset.assign(std::size_t(s.shape.batch_size),
                                                            s.shape.num_keys - s.shape.num_queries);
                                  add_window(s, Causal{}, -1, 0);
                                }},
                               {"causal",
                                [](Scenario& s) {  // some rows stand before the first key: they see nothing
                                  for (int b = 0; b < s.shape.batch_size; ++b)
                                    s.options.offset.push_back(b % 2 ? 3 : -2);
                                  s.reference.offset = s.options.offset;
                                  add_window(s, Causal{}, -1, 0);
                                }},
                               {"window", [](Scenario& s) { add_window(s, Window{.left = 2, .right = 1}, 2, 1); }},
                               {"window", [](Scenario& s) { add_window(s, Window{.left = 3}, 3, -1); }},
                               {"padding", [](Scenario& s) { add_padding(s); }},
                               {"dense", [](Scenario& s) { add_dense_mask(s, true, true, true, 0); }},
                               {"dense", [](Scenario& s) { add_dense_mask(s, false, true, false, 2); }},
                               {"causal&padding", [](Scenario& s) { add_window(s, Causal{}, -1, 0), add_padding(s); }},
                               {"window&dense", [](Scenario& s) {
                                  add_window(s, Window{.left = 4, .right = 2}, 4, 2);
                                  add_dense_mask(s, true, false, true, 0);
                                }}};
  return all;
}

inline const Variants& normalizers() {
  using Kind = kernels::ReferenceNormalizer;
  static const Variants all = {
      {"softmax", [](Scenario&) {}},
      {"softmax_with_sink",
       [](Scenario& s) { s.options.normalizer = SoftmaxWithSink{}, s.reference.normalizer = Kind::softmax_with_sink; }},
      {"sigmoid", [](Scenario& s) { s.options.normalizer = Sigmoid{}, s.reference.normalizer = Kind::sigmoid; }},
      {"sparsemax", [](Scenario& s) { s.options.normalizer = Sparsemax{}, s.reference.normalizer = Kind::sparsemax; }}};
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
  const std::vector<std::size_t> sizes = kernels::reference_sizes(s.reference);
  const std::vector<AttendParameter> parameters = attend_parameters(s.options, a);
  for (std::size_t n = 0; n < sizes.size(); ++n) {
    const bool slope = n >= 3 && parameters[n - 3].name == "slope";
    const double reach = n < 2 ? 1.5 : 1.0;
    s.in.push_back(random_numbers(s.random, sizes[n], slope ? 0.2 : -reach, slope ? 0.9 : reach));
  }
  s.dout = random_numbers(s.random, s.rows() * std::size_t(a.value_dim), -1, 1);
  if (s.wants_dlse) s.dlse = random_numbers(s.random, s.rows(), -1, 1);
  if (s.wants_dentropy) s.dentropy = random_numbers(s.random, s.rows(), -1, 1);
}

/// Whether the blanks of a case go together: some positions need equal widths or a table that reaches far enough.
inline bool fits(const Case& c) {
  Scenario s;
  for (const int f : {Case::shape, Case::position, Case::score, Case::mask}) variants(f)[std::size_t(c.pick[f])].add(s);
  const bool widths = s.shape.query_dim == s.shape.key_dim, negative = [&] {
    return std::any_of(s.reference.offset.begin(), s.reference.offset.end(), [](int n) { return n < 0; });
  }();
  const std::string& position = positions()[std::size_t(c[Case::position])].name;
  if (!widths && (position == "learned" || position == "rotary")) return false;
  return !(negative && position == "learned");
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

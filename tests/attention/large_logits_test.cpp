// Logits of any finite size. Far from each other as they are, they leave the weights of a mechanism at their limits,
// which are told here in float64 without any exponential: all of the weight with the largest, a step, a power.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/attention/mechanisms.hpp"
#include "attune/attention/pointwise_probs.hpp"

namespace attune::large_logits_tests {
namespace {

constexpr int kQueries = 37, kKeys = 100, kDim = 4, kWidth = 5;

/// The weights of a row from its logits; those of hidden keys are -infinity.
using Limit = std::vector<double> (*)(const std::vector<double>& x);

std::size_t best_of(const std::vector<double>& x) {
  return std::size_t(std::max_element(x.begin(), x.end()) - x.begin());
}
std::vector<double> largest(const std::vector<double>& x) {
  std::vector<double> p(x.size());
  p[best_of(x)] = 1;
  return p;
}
/// Against one more logit of 0.
std::vector<double> largest_above_0(const std::vector<double>& x) {
  std::vector<double> p(x.size());
  p[best_of(x)] = x[best_of(x)] > 0;
  return p;
}
std::vector<double> steps(const std::vector<double>& x) {
  std::vector<double> p;
  for (const double z : x) p.push_back(z > 0);
  return p;
}
std::vector<double> last_step(const std::vector<double>& x) {
  std::vector<double> p(x.size());
  for (std::size_t j = x.size(); j-- > 0;) {
    if (x[j] > 0) {
      p[j] = 1;
      break;
    }
  }
  return p;
}
template <int kPower>
std::vector<double> powers(const std::vector<double>& x) {
  double seen = 0;
  for (const double z : x) seen += std::isfinite(z);
  std::vector<double> p;
  for (const double z : x) p.push_back(z > 0 ? (kPower == 2 ? z * z : z) / seen : 0);
  return p;
}
std::vector<double> themselves(const std::vector<double>& x) {
  std::vector<double> p;
  for (const double z : x) p.push_back(std::isfinite(z) ? z : 0);
  return p;
}

/// The limit of a normalizer in the table; null for one that nobody has thought of here.
Limit limit_of(const std::string& name) {
  for (const char* takes_all : {"softmax", "hard", "sparsemax", "entmax15", "entmax", "pointwise_probs"}) {
    if (name == takes_all) return largest;
  }
  if (name == "softmax_with_sink" || name == "softmax_off_by_one") return largest_above_0;
  if (name == "sigmoid") return steps;
  if (name == "stick_breaking") return last_step;
  if (name == "relu") return powers<1>;
  if (name == "relu_squared") return powers<2>;
  if (name == "unnormalized") return themselves;
  return nullptr;
}

enum class Signs { both, negative };

/// One head whose logits are size times permutations of odd numbers over kKeys: no two of a row are nearer than
/// 2 size / kKeys to each other, and none is nearer than half of that to 0.
template <class T>
struct Toy {
  double size;
  std::vector<T> query, key, value, dout;
  std::vector<double> logits;  // [Tq][Tk]
  Toy(double size, Signs signs) : size(size) {
    const T root = T(std::sqrt(size));
    query.assign(kQueries * kDim, T(0));
    key.resize(kKeys * kDim);
    for (int i = 0; i < kQueries; ++i) query[std::size_t(i * kDim + i % kDim)] = root;
    for (int j = 0; j < kKeys; ++j) {
      for (int d = 0; d < kDim; ++d) {
        const int place = (j * (37 + 2 * d * d * d) + 11 * d) % kKeys;  // 37, 39, 53, 91: none shares a factor with 100
        const double share = signs == Signs::both ? 2 * place + 1 - kKeys : -2 * place - 1;
        key[std::size_t(j * kDim + d)] = T(share / kKeys) * root;
      }
    }
    for (int i = 0; i < kQueries; ++i) {
      for (int j = 0; j < kKeys; ++j) logits.push_back(double(root) * double(key[std::size_t(j * kDim + i % kDim)]));
    }
    for (int n = 0; n < kKeys * kWidth; ++n) value.push_back(T(0.5 + std::sin(n)));
    for (int n = 0; n < kQueries * kWidth; ++n) dout.push_back(T(0.5 + std::cos(n)));
  }
};

struct Setting {
  AttendOptions options;
  std::function<bool(int, int)> sees = [](int, int) { return true; };
  Limit limit = largest;
  double parameter = 0;   // every learned number of the normalizer
  bool from_lse = false;  // the way back makes weights once more with products of another order, the plain path's
};

template <class T>
double largest_size(const std::vector<T>& x) {
  double most = 0;  // infinite where a number is not finite
  for (const T v : x) most = std::isfinite(v) ? std::max(most, std::abs(double(v))) : INFINITY;
  return most;
}

template <class T>
void holds(const Setting& setting, double size, Signs signs) {
  SCOPED_TRACE(std::string(sizeof(T) == 4 ? "float32" : "float64") +
               (setting.options.mask ? " " + std::string(setting.options.mask.name()) : "") +
               (setting.options.bias.empty() ? "" : " " + std::string(setting.options.bias[0].name())));
  const Toy<T> toy(size, signs);
  AttendOptions options = setting.options;
  options.score = ScaledDot{.scale = 1};
  const AttendShape shape{1, 1, 1, kQueries, kKeys, kDim, kDim, kWidth};
  std::vector<std::vector<T>> arrays, darrays;
  std::vector<Shape> shapes;
  for (const AttendParameter& p : attend_parameters(options, shape)) {
    shapes.push_back(p.shape);
    arrays.emplace_back(std::size_t(p.shape.size()), T(setting.parameter));
    darrays.emplace_back(arrays.back().size(), T(0));
  }
  AttendInputs in{ConstView(toy.query.data(), {1, 1, kQueries, kDim}),
                  ConstView(toy.key.data(), {1, 1, kKeys, kDim}),
                  ConstView(toy.value.data(), {1, 1, kKeys, kWidth}),
                  {}};
  std::vector<T> out(kQueries * kWidth, T(777)), lse(kQueries), dquery(toy.query.size()), dkey(toy.key.size()),
      dvalue(toy.value.size());
  AttendGradients gradients{
      View(dquery.data(), in.query.shape), View(dkey.data(), in.key.shape), View(dvalue.data(), in.value.shape), {}};
  for (std::size_t n = 0; n < arrays.size(); ++n) {
    in.parameters.emplace_back(arrays[n].data(), shapes[n]);
    gradients.parameters.emplace_back(darrays[n].data(), shapes[n]);
  }
  const Shape rows{1, 1, kQueries}, outs{1, 1, kQueries, kWidth};
  attend_forward(in, {.out = View(out.data(), outs), .lse = View(lse.data(), rows)}, options);
  attend_backward(in,
                  {.out = ConstView(out.data(), outs),
                   .lse = ConstView(lse.data(), rows),
                   .dout = ConstView(toy.dout.data(), outs)},
                  gradients, options);

  std::vector<double> want(out.size()), want_dvalue(dvalue.size());
  for (int i = 0; i < kQueries; ++i) {
    std::vector<double> x;
    for (int j = 0; j < kKeys; ++j)
      x.push_back(setting.sees(i, j) ? toy.logits[std::size_t(i * kKeys + j)] : -INFINITY);
    const std::vector<double> p = setting.limit(x);
    for (int j = 0; j < kKeys; ++j) {
      for (int c = 0; c < kWidth; ++c) {
        const std::size_t at = std::size_t(i * kWidth + c), to = std::size_t(j * kWidth + c);
        want[at] += p[std::size_t(j)] * double(toy.value[to]);
        want_dvalue[to] += p[std::size_t(j)] * double(toy.dout[at]);
      }
    }
  }
  const auto near = [](const std::vector<T>& x, const std::vector<double>& y) {
    double worst = 0;
    for (std::size_t n = 0; n < x.size(); ++n) {
      const double off = std::abs(double(x[n]) - y[n]);
      worst = std::isfinite(off) ? std::max(worst, off) : INFINITY;
    }
    return worst / std::max(1.0, largest_size(y));
  };
  EXPECT_LE(near(out, want), 1e-5) << size;
  // Weights made once more are as exact as a logit's last digits: at most 1 is all they are where those are many nats.
  if (setting.from_lse && size >= 1e6) {
    std::vector<double> most(kWidth);
    for (std::size_t n = 0; n < toy.dout.size(); ++n) most[n % kWidth] += std::abs(double(toy.dout[n]));
    for (std::size_t n = 0; n < dvalue.size(); ++n)
      EXPECT_LE(std::abs(double(dvalue[n])), 1.00001 * most[n % kWidth]) << size << ", " << n;
  } else {
    const double digits = setting.from_lse ? 3 * size * double(std::numeric_limits<T>::epsilon()) : 0;
    EXPECT_LE(near(dvalue, want_dvalue), 1e-5 + digits) << size;
  }
  // Where weights have come to their limits, logits have no say any more: their gradients are rounding errors, which
  // the other side's numbers multiply.
  const bool bounded = setting.limit != powers<1> && setting.limit != powers<2> && setting.limit != themselves;
  const double most = bounded ? 1e-4 * std::sqrt(size) : std::numeric_limits<T>::max();
  EXPECT_LE(largest_size(dquery), most) << size;
  EXPECT_LE(largest_size(dkey), most) << size;
  for (const auto& d : darrays)
    EXPECT_LE(largest_size(d), bounded ? 1e-3 : double(std::numeric_limits<T>::max())) << size;
}
void holds(const Setting& setting) {
  for (const Signs signs : {Signs::both, Signs::negative}) {
    for (const double size : {1e4, 1e6, 1e9, 1e12, 1e15, 1e18}) holds<float>(setting, size, signs);
    for (const double size : {1e4, 1e9, 1e16, 1e40, 1e100}) holds<double>(setting, size, signs);
  }
}
void holds_with_masks(Setting setting) {
  holds(setting);
  setting.options.mask = Causal{};
  setting.sees = [](int i, int j) { return j <= i; };
  holds(setting);
  setting.options.mask = Causal{} & Window{.left = 9};
  setting.sees = [](int i, int j) { return j <= i && j >= i - 9; };
  holds(setting);
}

/// The online softmax: a test of its own, with biases.
const std::vector<std::string> kOfSoftmaxTiles = {"softmax", "softmax_with_sink", "softmax_off_by_one", "hard"};

/// By name, or of a lambda where the table says so.
Setting setting_of(const Mechanism& m) {
  Setting setting{.limit = limit_of(m.name)};
  if (m.by_name)
    setting.options.normalizer = normalizer_named(m.name);
  else
    setting.options.normalizer = pointwise_probs([](auto p, RowIndex) { return p; });
  return setting;
}

TEST(LargeLogits, EveryNormalizer) {
  for (const Mechanism& m : mechanisms()) {
    if (m.kind != "normalizer") continue;
    if (std::count(kOfSoftmaxTiles.begin(), kOfSoftmaxTiles.end(), m.name)) continue;
    SCOPED_TRACE(m.name);
    Setting setting = setting_of(m);
    ASSERT_TRUE(setting.limit) << "what does it do with large logits?";
    for (const double parameter : {0.3, -2.0}) {
      setting.parameter = parameter;
      holds_with_masks(setting);
      if (m.parameters.empty()) break;
    }
  }
}

TEST(LargeLogits, Softmax) {
  for (const std::string& name : kOfSoftmaxTiles) {
    SCOPED_TRACE(name);
    Setting setting{.limit = limit_of(name), .parameter = 0.3, .from_lse = name == Softmax::name};
    setting.options.normalizer = normalizer_named(name);
    holds_with_masks(setting);
    setting.from_lse = false;
    setting.options.bias = {Alibi{}};
    holds_with_masks(setting);
    setting.options.bias = {Dense{}};
    holds_with_masks(setting);
  }
}

}  // namespace
}  // namespace attune::large_logits_tests

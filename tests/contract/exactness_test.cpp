// The exactness of the engine, combination by combination: forward and backward in float64 and float32 against the
// oracle and against the tape, the adjoint test, the engine on dual numbers, and the Taylor test. Writes a row for each
// combination to contract.json in the build folder.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "attune/attention/mechanisms.hpp"
#include "attune/base/cpu.hpp"
#include "attune/base/parallel.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"
#include "contract/run.hpp"

namespace attune::contract {
namespace {

/// What one combination measured. Errors are relative; `failed` says which bars were missed.
struct Row {
  Scenario scenario;
  double forward_error = 0, backward_error = 0, adjoint_error = 0, taylor_slope = 0;
  double forward_error_float32 = 0, backward_error_float32 = 0, jvp_error = 0, tape_error = 0, hessian_error = 0;
  std::string failed;

  void hold(const char* what, double value, double bar) {
    if (value <= bar) return;
    char text[120];
    std::snprintf(text, sizeof text, "%s%s %.2e > %.2e", failed.empty() ? "" : ", ", what, value, bar);
    failed += text;
  }
};

/// A gradient that cancels to nearly nothing (one visible key: p = 1 whatever the logit) is held against a twentieth of
/// the largest gradient instead of its own.
double gradient_floor(const Arrays<double>& gradient) {
  double largest = 0;
  for (const auto& array : gradient) {
    for (const double g : array) largest = std::max(largest, std::abs(g));
  }
  return largest / 20;
}

Upstream<double> doubles(const Scenario& s) { return upstream_of<double>(s); }

/// <dout, out> + <dlse, lse> + <dentropy, entropy>, the loss of all tests here.
double loss_of(const Scenario& s, const Result<double>& r) {
  return dot_of(r.out, s.dout) + dot_of(r.lse, s.dlse) + dot_of(r.entropy, s.dentropy);
}

void check_float64(Row& row, const kernels::ReferenceForward& forward, const Result<double>& run) {
  const Scenario& s = row.scenario;
  const auto up = doubles(s);
  const double bar = forward_bar(double(), largest_logit(s.reference, forward));
  const auto gradient = expected_gradient(s, s.in, s.dout, s.dlse, s.dentropy);
  // By default tiles a toy problem is one tile; small ones make it many.
  for (const Result<double>& r : {run, run_tiles<double>(s, s.in, &up)}) {
    row.forward_error = std::max({row.forward_error, error_of(r.out, forward.out), error_of(r.lse, forward.stat)});
    if (!r.entropy.empty()) row.forward_error = std::max(row.forward_error, error_of(r.entropy, forward.entropy, 1.0));
    row.backward_error = std::max(row.backward_error, error_of(r.gradient, gradient, gradient_floor(gradient)));
  }
  row.hold("forward", row.forward_error, bar);
  row.hold("backward", row.backward_error, 5 * bar);

  const Arrays<double> tape = formula::gradient(s.plain, s.in, s.dout, s.dlse, s.dentropy);
  row.tape_error = error_of(run.gradient, tape, 20 * gradient_floor(tape));
  row.hold("tape", row.tape_error, 1e-12);
}

void check_float32(Row& row, const kernels::ReferenceForward& forward) {
  const Scenario& s = row.scenario;
  const auto up = upstream_of<float>(s);
  const auto in = converted<float>(s.in);
  const double bar = forward_bar(float(), largest_logit(s.reference, forward));
  const auto gradient = expected_gradient(s, s.in, s.dout, s.dlse, s.dentropy);
  const double floor = gradient_floor(gradient);
  const Result<float> runs[2] = {run_public<float>(s, in, &up), run_tiles<float>(s, in, &up)};
  // "Or twice the error of the plain float32 formula, if that is larger", tensor by tensor.
  formula::Result<float> plain;
  Arrays<float> plain_gradient;
  auto hold = [&](const char* what, double& worst, double error, double limit, auto plain_error) {
    worst = std::max(worst, error);
    if (error > limit) row.hold(what, error, std::max(limit, 2 * plain_error()));
  };
  for (const Result<float>& r : runs) {
    auto need = [&] {
      if (plain.out.empty()) plain = formula::run(s.plain, in);
    };
    hold("float32 out", row.forward_error_float32, error_of(r.out, forward.out), bar,
         [&] { return need(), error_of(plain.out, forward.out); });
    hold("float32 lse", row.forward_error_float32, error_of(r.lse, forward.stat, 1.0), bar,
         [&] { return need(), error_of(plain.stat, forward.stat, 1.0); });
    if (!r.entropy.empty()) {
      hold("float32 entropy", row.forward_error_float32, error_of(r.entropy, forward.entropy, 1.0), bar,
           [&] { return need(), error_of(plain.entropy, forward.entropy, 1.0); });
    }
    for (std::size_t a = 0; a < in.size(); ++a) {
      hold("float32 backward", row.backward_error_float32, error_of(r.gradient[a], gradient[a], floor), 5 * bar, [&] {
        if (plain_gradient.empty()) plain_gradient = formula::gradient(s.plain, in, up.dout, up.dlse, up.dentropy);
        return error_of(plain_gradient[a], gradient[a], floor);
      });
    }
  }
}

/// <u, J v> = <J^T u, v>: J v by dual numbers through the plain formula, J^T u by the engine. No step size.
void check_duals(Row& row, const Result<double>& run, const Arrays<double>& direction) {
  const Scenario& s = row.scenario;
  Arrays<Dual<double>> in;
  double direction_norm = 0, gradient_norm = 0, image_norm = 0, upstream_norm = 0;
  for (std::size_t a = 0; a < s.in.size(); ++a) {
    auto& to = in.emplace_back();
    for (std::size_t n = 0; n < s.in[a].size(); ++n) to.emplace_back(s.in[a][n], direction[a][n]);
    direction_norm += dot_of(direction[a], direction[a]);
    gradient_norm += dot_of(run.gradient[a], run.gradient[a]);
  }
  const formula::Result<Dual<double>> image = formula::run(s.plain, in);
  auto tangent = [](const std::vector<Dual<double>>& v) {
    std::vector<double> d;
    for (const auto& x : v) d.push_back(x.d);
    return d;
  };
  double left = 0;
  auto pair_up = [&](const std::vector<Dual<double>>& result, const std::vector<double>& up) {
    if (up.empty()) return;
    const std::vector<double> d = tangent(result);
    left += dot_of(up, d);
    image_norm += dot_of(d, d);
    upstream_norm += dot_of(up, up);
  };
  pair_up(image.out, s.dout);
  pair_up(image.stat, s.dlse);
  pair_up(image.entropy, s.dentropy);
  const double scale = std::sqrt(upstream_norm * image_norm) + std::sqrt(gradient_norm * direction_norm);
  const double difference = std::abs(left - dot_of(run.gradient, direction));
  row.adjoint_error = difference == 0 ? 0 : difference / scale;
  row.hold("adjoint", row.adjoint_error, 1e-13);

  // Forward mode through the engine: the same stages on duals.
  const Result<Dual<double>> engine = run_tiles<Dual<double>>(s, in);
  row.jvp_error = error_of(tangent(engine.out), tangent(image.out));
  if (s.gives_lse()) {
    row.jvp_error = std::max({row.jvp_error, error_of(tangent(engine.lse), tangent(image.stat)),
                              error_of(tangent(engine.entropy), tangent(image.entropy), 1.0)});
  }
  row.hold("engine on duals", row.jvp_error, 1e-12);
}

/// <v, H w> = <w, H v> for H the Hessian of the loss, from the backward pass on duals: second order by the same stages.
void check_hessian(Row& row, const Arrays<double>& v, const Arrays<double>& w) {
  const Scenario& s = row.scenario;
  auto product = [&](const Arrays<double>& direction) {
    Arrays<Dual<double>> in;
    for (std::size_t a = 0; a < s.in.size(); ++a) {
      auto& to = in.emplace_back();
      for (std::size_t n = 0; n < s.in[a].size(); ++n) to.emplace_back(s.in[a][n], direction[a][n]);
    }
    const Upstream<Dual<double>> up{converted<Dual<double>>(s.dout), converted<Dual<double>>(s.dlse),
                                    converted<Dual<double>>(s.dentropy)};
    Arrays<double> h;
    for (const auto& array : run_tiles<Dual<double>>(s, in, &up).gradient) {
      auto& to = h.emplace_back();
      for (const auto& x : array) to.push_back(x.d);
    }
    return h;
  };
  const Arrays<double> hv = product(v), hw = product(w);
  double scale = 0;
  for (std::size_t a = 0; a < v.size(); ++a) {
    for (std::size_t n = 0; n < v[a].size(); ++n) scale += std::abs(w[a][n] * hv[a][n]);
  }
  const double difference = std::abs(dot_of(hv, w) - dot_of(hw, v));
  row.hessian_error = difference == 0 ? 0 : difference / scale;
  row.hold("Hessian", row.hessian_error, 1e-12);
}

/// Which probabilities are not 0: where this changes along a direction, a normalizer with kinks has one.
std::vector<bool> support_of(const Scenario& s, const Arrays<double>& in) {
  std::vector<bool> support;
  for (const double p : expected_forward(s, in).probs) support.push_back(p > 0);
  return support;
}

/// What a Taylor test evaluates. A straight-through normalizer is flat where its gradient is not; what it states is the
/// surrogate plus a constant, hard - surrogate weights, that is frozen at the point where the gradient was taken.
class Loss {
 public:
  explicit Loss(const Scenario& s) : s_(s) {
    if (!s.surrogate) return;
    smooth_ = s.plain;
    smooth_.normalizer = s.surrogate;
    const auto hard = formula::run(s.plain, s.in).probs, soft = formula::run(smooth_, s.in).probs;
    std::vector<double> frozen;
    for (std::size_t n = 0; n < hard.size(); ++n) frozen.push_back(hard[n] - soft[n]);
    const AttendShape shape = s.shape;
    const auto add = [shape, frozen, smooth = s.surrogate](const formula::Pair& at, auto x, std::span<const int> keys,
                                                           auto arrays) {
      using S = formula::ScalarOf<decltype(x)>;
      formula::Row<S> r = smooth.on<S>()(at, x, keys, arrays);
      const int row = (at.batch * shape.num_heads + at.head) * shape.num_queries + at.query;
      for (std::size_t n = 0; n < keys.size(); ++n) {
        r.probs[n] += S(frozen[std::size_t(row) * std::size_t(shape.num_keys) + std::size_t(keys[n])]);
      }
      return r;
    };
    smooth_.normalizer = add;
  }
  double operator()(const Arrays<double>& in) const {
    return s_.surrogate ? dot_of(formula::run(smooth_, in).out, s_.dout) : loss_of(s_, run_public<double>(s_, in));
  }

 private:
  const Scenario& s_;
  formula::Problem smooth_;
};

struct Taylor {
  double slope = std::numeric_limits<double>::quiet_NaN();
  bool exact = false;  // no remainder at all: the loss is linear along the direction, and the gradient is its slope
};
/// The slope of log |f(x + h v) - f(x) - h <gradient, v>| against log h for h = 2^-3 .. 2^-9; NaN if there is a kink on
/// the way or fewer than three remainders are above 1e-11.
Taylor taylor(const Row& row, const Loss& loss_at, const Result<double>& run, const Arrays<double>& direction) {
  const Scenario& s = row.scenario;
  const std::vector<bool> support = s.kinks ? support_of(s, s.in) : std::vector<bool>{};
  const double loss = s.surrogate ? loss_at(s.in) : loss_of(s, run), slope = dot_of(run.gradient, direction);
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (int k = 3; k <= 9; ++k) {
    const double h = std::ldexp(1.0, -k);
    Arrays<double> moved = s.in;
    for (std::size_t a = 0; a < moved.size(); ++a) {
      for (std::size_t e = 0; e < moved[a].size(); ++e) moved[a][e] += h * direction[a][e];
    }
    if (s.kinks && support_of(s, moved) != support) return {};
    const double remainder = std::abs(loss_at(moved) - loss - h * slope);
    if (remainder < 1e-11) continue;
    const double x = -k, y = std::log2(remainder);
    n += 1, sx += x, sy += y, sxx += x * x, sxy += x * y;
  }
  if (n < 3) return {.exact = n == 0};
  return {.slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)};
}

Arrays<double> random_direction(Scenario& s, double norm) {
  Arrays<double> v;
  double square = 0;
  for (const auto& array : s.in) {
    v.push_back(random_numbers(s.random, array.size(), -1, 1));
    square += dot_of(v.back(), v.back());
  }
  for (auto& array : v) {
    for (double& x : array) x *= norm / std::sqrt(square);
  }
  return v;
}

/// A wrong gradient leaves a remainder that falls with slope 1 in every direction. A right one may still meet a kink,
/// or a direction in which the curvature happens to vanish, so other and shorter directions are tried.
void check_taylor(Row& row, const Result<double>& run) {
  const Loss loss(row.scenario);
  double norm = 1;
  for (int attempt = 0; attempt < 12; ++attempt) {
    const Taylor t = taylor(row, loss, run, random_direction(row.scenario, norm));
    row.taylor_slope = t.slope;
    if (t.exact) return;
    if (row.taylor_slope >= 1.95 && row.taylor_slope <= 2.05) return;
    norm *= 0.7;
  }
  row.failed += (row.failed.empty() ? "" : ", ") + ("Taylor slope " + std::to_string(row.taylor_slope));
}

Row measure(const Case& c, bool second_order) {
  Row row{.scenario = make_scenario(c)};
  Scenario& s = row.scenario;
  const auto up = doubles(s);
  const kernels::ReferenceForward forward = expected_forward(s, s.in);
  const Result<double> run = run_public<double>(s, s.in, &up);
  check_float64(row, forward, run);
  check_float32(row, forward);
  const Arrays<double> v = random_direction(s, 1);
  check_duals(row, run, v);
  if (second_order) check_hessian(row, v, random_direction(s, 1));
  check_taylor(row, run);
  return row;
}

nlohmann::ordered_json json_of(const Row& row) {
  const auto& names = row.scenario.names;
  return {{"score", names[Case::score]},
          {"bias", names[Case::bias]},
          {"mask", names[Case::mask]},
          {"normalizer", names[Case::normalizer]},
          {"position", names[Case::position]},
          {"dropout", row.scenario.options.dropout_p},
          {"shape", names[Case::shape]},
          {"upstream", names[Case::upstream]},
          {"forward_error", row.forward_error},
          {"backward_error", row.backward_error},
          {"adjoint_error", row.adjoint_error},
          {"taylor_slope", row.taylor_slope},
          {"forward_error_float32", row.forward_error_float32},
          {"backward_error_float32", row.backward_error_float32},
          {"tape_error", row.tape_error},
          {"jvp_error", row.jvp_error},
          {"cpu", std::string(name_of(cpu_target()))},
          {"status", row.failed.empty() ? "ok" : row.failed}};
}

/// Written beside and renamed: test programs for several instruction sets may run at the same time.
void write_table(const nlohmann::ordered_json& rows) {
  const std::string path = std::string(ATTUNE_BINARY_DIR) + "/contract.json";
  const std::string beside = path + "." + std::string(name_of(cpu_target()));
  {
    std::ofstream file(beside);
    file << "[";
    for (std::size_t n = 0; n < rows.size(); ++n) file << (n ? ",\n " : "\n ") << rows[n].dump();
    file << "\n]\n";
    ASSERT_TRUE(file.flush().good()) << "cannot write " << beside;
  }
  ASSERT_EQ(std::rename(beside.c_str(), path.c_str()), 0);
}

TEST(Contract, EveryCombinationIsExact) {
  const std::vector<Case> cases = contract_cases();
  // Toy problems: waking other threads costs more than they save. Any number gives equal bits (structure_test.cpp).
  const int threads = num_threads();
  set_num_threads(1);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::set<std::string> met;
  Row worst;
  int failures = 0;
  for (std::size_t n = 0; n < cases.size(); ++n) {
    const Row row = measure(cases[n], n % 7 == 0);
    rows.push_back(json_of(row));
    if (!row.failed.empty() && ++failures <= 20) ADD_FAILURE() << row.scenario.text() << ": " << row.failed;
    auto take = [](double& most, double x) { most = std::max(most, x); };
    take(worst.forward_error, row.forward_error), take(worst.backward_error, row.backward_error);
    take(worst.forward_error_float32, row.forward_error_float32);
    take(worst.backward_error_float32, row.backward_error_float32);
    take(worst.adjoint_error, row.adjoint_error), take(worst.jvp_error, row.jvp_error);
    take(worst.tape_error, row.tape_error), take(worst.hessian_error, row.hessian_error);
    for (const auto& [kind, factor] : {std::pair{"score", Case::score},
                                       {"mask", Case::mask},
                                       {"normalizer", Case::normalizer},
                                       {"position", Case::position}}) {
      met.insert(std::string(kind) + " " + row.scenario.names[factor]);
    }
    for (const AnyBias& b : row.scenario.options.bias) met.insert("bias " + std::string(b.name()));
    if (row.scenario.options.mask) met.insert("mask " + std::string(row.scenario.options.mask.name()));
  }
  set_num_threads(threads);
  EXPECT_EQ(failures, 0);
  write_table(rows);
  // A new stage is not done before it has its variant in variants/.
  for (const Mechanism& m : mechanisms()) EXPECT_TRUE(met.count(m.kind + " " + m.name)) << m.kind << " " << m.name;
  std::printf(
      "%zu combinations, %d failed; worst: forward %.1e backward %.1e float32 %.1e %.1e adjoint %.1e duals %.1e tape "
      "%.1e Hessian %.1e\n",
      cases.size(), failures, worst.forward_error, worst.backward_error, worst.forward_error_float32,
      worst.backward_error_float32, worst.adjoint_error, worst.jvp_error, worst.tape_error, worst.hessian_error);
}

}  // namespace
}  // namespace attune::contract

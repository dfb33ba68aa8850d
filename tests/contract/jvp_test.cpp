// attend_jvp and attend_backward_jvp through everything: against the plain formula on duals, against attend_backward by
// the adjoint identity, and against differences of gradients.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/attention/attend_jvp.hpp"
#include "attune/base/error.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"
#include "contract/run.hpp"
#include "message_of.hpp"

namespace attune::contract {
namespace {

Arrays<double> direction_of(Scenario& s) {
  Arrays<double> v;
  for (const auto& array : s.in) v.push_back(random_numbers(s.random, array.size(), -1, 1));
  return v;
}
std::vector<double> parts(const std::vector<Dual<double>>& x, double Dual<double>::*part) {
  std::vector<double> r;
  for (const auto& number : x) r.push_back(number.*part);
  return r;
}

TEST(Jvp, MovesAsTheFormulaDoes) {
  Generator g(71);
  for (int n = 0; n < 60; ++n) {
    Scenario s = make_scenario(random_case(g));
    const Arrays<double> v = direction_of(s);
    Arrays<Dual<double>> in;
    for (std::size_t a = 0; a < v.size(); ++a) {
      auto& to = in.emplace_back();
      for (std::size_t e = 0; e < v[a].size(); ++e) to.emplace_back(s.in[a][e], v[a][e]);
    }
    const auto want = formula::run(s.plain, in);
    const Views<double> views(s.shape, s.options);
    Result<double> value, tangent;
    for (Result<double>* r : {&value, &tangent}) {
      r->out.assign(want.out.size(), 777.0);
      r->lse.assign(s.rows(), 777.0);
      if (s.gives_lse()) r->entropy.assign(s.rows(), 777.0);
    }
    const auto outputs = [&](Result<double>& r) {
      return AttendOutputs{
          .out = View(r.out.data(), views.out), .lse = views.rows(r.lse), .entropy = views.rows(r.entropy)};
    };
    attend_jvp(views.inputs(s.in), views.inputs(v), {outputs(value), outputs(tangent)}, s.options);
    EXPECT_LE(error_of(value.out, parts(want.out, &Dual<double>::v)), 1e-12) << s.text();
    EXPECT_LE(error_of(tangent.out, parts(want.out, &Dual<double>::d)), 1e-12) << s.text();
    EXPECT_LE(error_of(value.lse, parts(want.stat, &Dual<double>::v), 1.0), 1e-12) << s.text();
    EXPECT_LE(error_of(tangent.lse,
                       s.surrogate ? std::vector<double>(s.rows(), 0.0) : parts(want.stat, &Dual<double>::d), 1.0),
              1e-12)
        << s.text();
    if (!s.gives_lse()) continue;
    EXPECT_LE(error_of(tangent.entropy, parts(want.entropy, &Dual<double>::d), 1.0), 1e-12) << s.text();

    // <u, J v> = <J^T u, v>, both by public calls.
    const auto up = upstream_of<double>(s);
    const Result<double> run = run_public<double>(s, s.in, &up);
    const double left = dot_of(tangent.out, s.dout) + dot_of(tangent.lse, s.dlse) + dot_of(tangent.entropy, s.dentropy);
    const double norm = std::sqrt(dot_of(run.gradient, run.gradient) * dot_of(v, v));
    EXPECT_LE(std::abs(left - dot_of(run.gradient, v)), 1e-13 * norm) << s.text();
  }
}

/// Gradients of one call, by the public attend_backward_jvp: values and tangents.
std::pair<Arrays<double>, Arrays<double>> second_order(const Scenario& s, const Arrays<double>& v,
                                                       const AttendUpstream& up, const AttendUpstream& moved) {
  const Views<double> views(s.shape, s.options);
  Arrays<double> value = zeros_like(s.in), tangent = value;
  attend_backward_jvp(views.inputs(s.in), views.inputs(v), up, moved,
                      {views.gradients(value), views.gradients(tangent)}, s.options);
  return {value, tangent};
}

TEST(Jvp, OfTheBackwardIsTheDifferenceOfGradients) {
  Generator g(72);
  int tried = 0;
  while (tried < 40) {
    Scenario s = make_scenario(random_case(g));
    if (s.kinks || s.surrogate) continue;  // differences see the jumps of the one and not the surrogate of the other
    ++tried;
    const Arrays<double> v = direction_of(s);
    const std::vector<double> ddout = random_numbers(s.random, s.dout.size(), -1, 1);
    const Views<double> views(s.shape, s.options);
    const auto [value, tangent] = second_order(
        s, v,
        {.dout = ConstView(s.dout.data(), views.out), .dlse = views.rows(s.dlse), .dentropy = views.rows(s.dentropy)},
        {.dout = ConstView(ddout.data(), views.out)});
    const auto gradient_at = [&](double step) {
      Arrays<double> in = s.in;
      Upstream<double> up = upstream_of<double>(s);
      for (std::size_t a = 0; a < in.size(); ++a) {
        for (std::size_t e = 0; e < in[a].size(); ++e) in[a][e] += step * v[a][e];
      }
      for (std::size_t e = 0; e < ddout.size(); ++e) up.dout[e] += step * ddout[e];
      return run_public<double>(s, in, &up).gradient;
    };
    EXPECT_LE(error_of(value, gradient_at(0), 1.0), 1e-11) << s.text();
    // Differences of fourth order: 8 (g(h) - g(-h)) - (g(2h) - g(-2h)) over 12 h.
    const double h = 1e-3;
    const auto a = gradient_at(h), b = gradient_at(-h), c = gradient_at(2 * h), d = gradient_at(-2 * h);
    Arrays<double> difference = zeros_like(s.in);
    for (std::size_t n = 0; n < difference.size(); ++n) {
      for (std::size_t e = 0; e < difference[n].size(); ++e) {
        difference[n][e] = (8 * (a[n][e] - b[n][e]) - (c[n][e] - d[n][e])) / (12 * h);
      }
    }
    EXPECT_LE(error_of(tangent, difference, 1.0), 1e-7) << s.text();
  }
}

/// Views of other memory: tokens first, float32, parts left out, += into what is there.
TEST(Jvp, TakesStridesFloatsAndParts) {
  Generator g(73);
  const Shape tokens{2, 5, 3, 4}, heads{2, 3, 5, 4}, rows{2, 3, 5};
  const auto draw = [&](std::int64_t n) { return random_numbers(g, std::size_t(n), -1, 1); };
  const auto query = draw(tokens.size()), key = draw(tokens.size()), value = draw(tokens.size()),
             move = draw(tokens.size());
  const std::vector<float> move32(move.begin(), move.end());
  const auto view = [&](const auto& x) { return ConstView(x.data(), tokens).transposed(1, 2); };
  const AttendInputs in{view(query), view(key), view(value), {}};
  std::vector<double> all(query.size()), out(query.size(), 1.0);
  std::vector<float> narrow(query.size());
  AttendInputs moved;
  moved.key = view(move);
  attend_jvp(in, moved, {{}, {.out = View(all.data(), heads)}});
  moved.key = view(move32);
  attend_jvp(in, moved, {{}, {.out = View(narrow.data(), tokens).transposed(1, 2)}});
  for (std::size_t n = 0; n < all.size(); ++n) {
    const std::size_t d = n % 4, t = n / 4 % 5, h = n / 20 % 3, b = n / 60;
    EXPECT_NEAR(narrow[((b * 5 + t) * 3 + h) * 4 + d], all[n], 1e-6);
  }
  // The Hessian of <dout, out> along the key, of the value alone; twice into the same memory.
  std::vector<double> once(query.size()), twice(query.size());
  const AttendUpstream up{.dout = ConstView(value.data(), heads)};
  AttendBackwardJvp to;
  to.tangent.value = View(once.data(), heads);
  attend_backward_jvp(in, moved, up, {}, to);
  to.tangent.value = View(twice.data(), heads);
  for (int n = 0; n < 2; ++n) attend_backward_jvp(in, moved, up, {}, to);
  double most = 0;
  for (std::size_t n = 0; n < once.size(); ++n) {
    EXPECT_EQ(twice[n], 2 * once[n]);
    most = std::max(most, std::abs(once[n]));
  }
  EXPECT_GT(most, 0.01);
  // Nothing moves: every tangent is 0.
  std::vector<double> still(query.size(), 5.0);
  attend_jvp(in, {}, {{}, {.out = View(still.data(), heads)}});
  for (const double x : still) EXPECT_EQ(x, 0);
}

TEST(Jvp, SaysWhatItCannotDo) {
  const Shape shape{1, 1, 3, 2}, rows{1, 1, 3};
  std::vector<double> x(6, 0.5), row(3);
  const ConstView v(x.data(), shape);
  const AttendInputs in{v, v, v, {}};
  AttendInputs wrong;
  wrong.key = ConstView(x.data(), {1, 1, 2, 3});
  EXPECT_EQ(testing::message_of([&] { attend_jvp(in, wrong, {}); }),
            "attend_jvp: tangent of key [1, 1, 3, 2], got [1, 1, 2, 3]");
  AttendJvp entropy;
  entropy.tangent.entropy = View(row.data(), rows);
  EXPECT_EQ(testing::message_of([&] { attend_jvp(in, in, entropy, {.normalizer = Sparsemax{}}); }),
            "attend_jvp: a normalizer with a log-sum-exp for an entropy, got sparsemax");
  const AttendUpstream lse{.dlse = ConstView(row.data(), rows)};
  EXPECT_EQ(testing::message_of([&] { attend_backward_jvp(in, in, lse, {}, {}, {.normalizer = Sparsemax{}}); }),
            "attend_backward_jvp: a normalizer with a log-sum-exp for gradients of lse or entropy, got sparsemax");
  EXPECT_THROW(attend_jvp(in, in, {}, {.normalizer = SoftmaxWithSink{}}), Error);
  AttendOptions sequences;
  sequences.sequences.queries = {0, 2};
  EXPECT_EQ(testing::message_of([&] { attend_jvp(in, in, {}, sequences); }),
            "attend_jvp: sequences.queries that rise from 0 to 3, got 2 numbers from 0 to 2");
  sequences.sequences.queries = {0, 1, 3};
  EXPECT_EQ(testing::message_of([&] { attend_jvp(in, wrong, {}, sequences); }),
            "attend_jvp: 3 rows, of all sequences, got [1, 1, 2, 3]");
}

}  // namespace
}  // namespace attune::contract

// Every row of the doctor's table, from made-up logs; and those that must stay silent.
#include "attune/train/doctor.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

using Curve = std::function<double(double)>;  // over the share of training, 0 .. 1

/// A log of 40 lines: two layers of two heads, of which the last head of the second layer is the one that is told.
struct MadeUp {
  Curve loss = [](double x) { return 4 - 2 * x; };
  Curve gradient = [](double) { return 0.5; };
  Curve score = [](double) { return 8.0; };
  Curve entropy = [](double) { return 0.6; };
  Curve logit;         // the score unless given
  bool alike = false;  // all heads are as the last
  bool heads = true;   // the log has lines of heads

  RunHistory history() const {
    RunHistory out;
    for (std::int64_t i = 1; i <= 40; ++i) {
      const double x = double(i) / 40, other_score = alike ? score(x) : 6, other_entropy = alike ? entropy(x) : 0.7;
      const double told_logit = logit ? logit(x) : score(x), other_logit = alike ? told_logit : 6;
      out.steps.push_back({.step = 10 * i, .loss = loss(x), .learning_rate = 1e-3, .gradient_norm = gradient(x)});
      out.steps.back().largest_logit = told_logit;
      out.steps.back().entropy = entropy(x);
      if (!heads) continue;
      for (const char* layer : {"layer0.attention", "layer1.attention"}) {
        const bool told = alike || layer[5] == '1';
        out.heads.push_back({.step = 10 * i,
                             .layer = layer,
                             .score = {other_score, told ? score(x) : other_score},
                             .logit = {other_logit, told ? told_logit : other_logit},
                             .entropy = {other_entropy, told ? entropy(x) : other_entropy}});
      }
    }
    return out;
  }
  Diagnosis diagnosis() const { return diagnose(history()); }
};

/// Falls at first, rises in the last half.
double falls_and_rises(double x) { return x < 0.5 ? 4 - 4 * x : 2 + 2 * (x - 0.5); }
/// From a at the start to b at the end.
Curve line(double a, double b) {
  return [=](double x) { return a + (b - a) * x; };
}
Curve always(double a) { return line(a, a); }

/// The only finding is this one.
void expect_only(const Diagnosis& d, const std::string& symptom, bool bad) {
  ASSERT_EQ(d.findings.size(), 1u) << diagnosis_text(d);
  EXPECT_EQ(d.findings[0].symptom, symptom) << diagnosis_text(d);
  EXPECT_EQ(d.findings[0].bad, bad) << diagnosis_text(d);
  EXPECT_EQ(d.bad(), bad);
  EXPECT_FALSE(d.findings[0].evidence.empty());
  EXPECT_FALSE(d.findings[0].cause.empty());
  EXPECT_FALSE(d.findings[0].action.empty());
  EXPECT_LE(d.findings[0].first_step, d.findings[0].last_step);
}

TEST(Doctor, SaysNothingOfHealthyRuns) {
  EXPECT_TRUE(MadeUp{}.diagnosis().findings.empty());
  const std::string text = diagnosis_text(MadeUp{}.diagnosis());
  EXPECT_TRUE(text.starts_with("healthy (")) << text;
  EXPECT_NE(text.find("looked at  loss and gradient norm, scores and entropy of each of "), std::string::npos) << text;
  EXPECT_NE(text.find("not logged "), std::string::npos) << text;
  const MadeUp learning{.score = line(1, 20), .entropy = line(0.95, 0.5), .alike = true};
  EXPECT_TRUE(learning.diagnosis().findings.empty()) << "scores grow while a model learns";
  const MadeUp converged{.loss = [](double x) { return x < 0.3 ? 4 - 10 * x : 1.0; }, .gradient = line(1, 0.05)};
  EXPECT_TRUE(converged.diagnosis().findings.empty());
}

TEST(Doctor, ASharpHeadIsNotSick) {
  const MadeUp sharp{.score = always(60), .entropy = always(0.01)};
  EXPECT_TRUE(sharp.diagnosis().findings.empty()) << diagnosis_text(sharp.diagnosis());
  const MadeUp all_sharp{.score = line(58, 62), .entropy = always(0.01), .alike = true};
  EXPECT_TRUE(all_sharp.diagnosis().findings.empty()) << diagnosis_text(all_sharp.diagnosis());
}

TEST(Doctor, Drift) {
  const MadeUp drift{.score = line(10, 90), .entropy = line(0.7, 0.15)};
  const Diagnosis d = drift.diagnosis();
  expect_only(d, "drift", false);
  EXPECT_EQ(d.findings[0].places, (std::vector<HeadPlace>{{"layer1.attention", 1}})) << "the other heads stand still";
  EXPECT_EQ(d.findings[0].last_step, 400);
  EXPECT_NE(d.findings[0].evidence.find("in 50 updates"), std::string::npos) << d.findings[0].evidence;
}

TEST(Doctor, Explosion) {
  MadeUp explosion{.score = [](double x) { return x < 0.5 ? 10 : 4000; }, .entropy = line(0.5, 0.001)};
  expect_only(explosion.diagnosis(), "explosion", true);
  EXPECT_EQ(explosion.diagnosis().findings[0].places.front(), (HeadPlace{"layer1.attention", 1}));
  EXPECT_EQ(explosion.diagnosis().findings[0].first_step, 200);
  explosion.score = [](double x) { return x > 0.5 && x < 0.8 ? 400 : 10; };
  expect_only(explosion.diagnosis(), "explosion", false);
  EXPECT_TRUE(diagnose(explosion.history(), {.tau = 500}).findings.empty()) << "the limit is the run's";
  explosion.heads = false;
  expect_only(explosion.diagnosis(), "explosion", false);
  EXPECT_NE(diagnosis_text(explosion.diagnosis()).find("all heads"), std::string::npos) << "a log without heads";
}

TEST(Doctor, Collapse) {
  const MadeUp collapse{.loss = falls_and_rises,
                        .gradient = line(0.2, 2),
                        .score = line(10, 95),
                        .entropy = line(0.5, 0.001),
                        .alike = true};
  MadeUp late = collapse;
  late.entropy = [](double x) { return x < 0.5 ? 0.5 : 0.01; };
  const Diagnosis d = late.diagnosis();
  expect_only(d, "collapse", true);
  EXPECT_EQ(d.findings[0].places.size(), 2u);
  EXPECT_GE(d.findings[0].first_step, 200);
  late.loss = line(4, 2);
  for (const Finding& f : late.diagnosis().findings) EXPECT_NE(f.symptom, "collapse") << "the loss still falls";
}

TEST(Doctor, Spike) {
  MadeUp spike{.loss = [](double x) { return (x == 0.5 ? 3 : 0) + 4 - 2 * x; },
               .gradient = [](double x) { return x == 0.5 ? 9 : 0.5; }};
  expect_only(spike.diagnosis(), "spike", false);
  EXPECT_EQ(spike.diagnosis().findings[0].first_step, 200);
  spike.gradient = always(0.5);
  EXPECT_TRUE(spike.diagnosis().findings.empty()) << "the loss alone: an unlucky interval";
  spike.gradient = [](double x) { return x == 0.5 ? 9 : 0.5; };
  spike.loss = [](double x) { return x < 0.5 ? 4 - 2 * x : 5 - x; };
  EXPECT_TRUE(spike.diagnosis().bad()) << "it did not come back";
  EXPECT_EQ(spike.diagnosis().findings[0].symptom, "diverged");

  RunHistory history = MadeUp{}.history();
  history.guard.push_back(
      {.step = 121, .signal = "loss", .value = 7, .action = "roll_back", .before = 120, .after = 80});
  expect_only(diagnose(history), "spike", false);
  history.guard.push_back({.step = 131, .signal = "loss", .value = 7, .action = "stop", .before = 130, .after = 130});
  expect_only(diagnose(history), "spike", true);
}

TEST(Doctor, OutputDivergence) {
  const MadeUp output{.loss = falls_and_rises, .gradient = line(0.2, 2)};
  expect_only(output.diagnosis(), "output_divergence", true);
}

TEST(Doctor, OutputDivergenceHasItsEvidence) {
  RunHistory history = MadeUp{.loss = falls_and_rises, .gradient = line(0.2, 2)}.history();
  for (StepLine& s : history.steps) s.output_lse = 5 + 0.05 * double(s.step);
  expect_only(diagnose(history), "output_divergence", true);
  EXPECT_NE(diagnose(history).findings[0].evidence.find("log-sum-exp"), std::string::npos);
  for (StepLine& s : history.steps) s.output_lse = 5;
  EXPECT_TRUE(diagnose(history).findings.empty()) << "the output's logits stand still: it is something else";
}

TEST(Doctor, EpsilonDominates) {
  RunHistory history = MadeUp{}.history();
  for (std::int64_t i = 1; i <= 4; ++i) {
    history.epsilon.push_back({.step = 100 * i, .share = {{"query", i < 3 ? 0.1 : 0.8}, {"mlp", 0.2}}});
  }
  const Diagnosis d = diagnose(history);
  expect_only(d, "epsilon_dominates", false);
  EXPECT_EQ(d.findings[0].first_step, 300);
  EXPECT_EQ(d.findings[0].last_step, 400);
  EXPECT_NE(d.findings[0].evidence.find("query 80 %"), std::string::npos) << d.findings[0].evidence;
  EXPECT_EQ(d.findings[0].evidence.find("mlp"), std::string::npos);
  history.epsilon.back().share["query"] = 0.4;
  EXPECT_TRUE(diagnose(history).findings.empty()) << "it is over";
}

TEST(Doctor, UniformAttention) {
  MadeUp uniform{
      .loss = always(4), .gradient = always(0.01), .score = always(0.1), .entropy = always(0.999), .alike = true};
  expect_only(uniform.diagnosis(), "uniform", false);
  uniform.loss = line(4, 2);
  EXPECT_TRUE(uniform.diagnosis().findings.empty()) << "it learns";
}

TEST(Doctor, SaturatedCap) {
  const MadeUp capped{.score = always(3000), .entropy = always(0.8), .logit = always(30)};
  expect_only(capped.diagnosis(), "saturated_cap", false);
}

TEST(Doctor, NotFiniteDivergedAndOverfitting) {
  RunHistory history = MadeUp{}.history();
  history.refused.push_back({.step = 100, .loss = std::nan(""), .gradient_norm = 1});
  expect_only(diagnose(history), "not_finite", false);
  history.refused.push_back({.step = 400, .loss = std::nan(""), .gradient_norm = 1});
  expect_only(diagnose(history), "not_finite", true);

  const MadeUp diverged{.loss = [](double x) { return x < 0.1 ? 4 : 4.5; }};
  expect_only(diverged.diagnosis(), "diverged", true);

  RunHistory by_heart = MadeUp{}.history();
  for (std::int64_t i = 0; i <= 4; ++i)
    by_heart.valids.push_back({.step = 100 * i, .loss = std::vector<double>{4, 3, 3.2, 3.5, 3.8}[std::size_t(i)]});
  expect_only(diagnose(by_heart), "overfitting", false);
}

TEST(Doctor, WorstFirstAndNothingFromNothing) {
  RunHistory history = MadeUp{.score = line(10, 90), .entropy = line(0.7, 0.15)}.history();
  history.refused.push_back({.step = 400, .loss = std::nan(""), .gradient_norm = 1});
  const Diagnosis d = diagnose(history);
  ASSERT_EQ(d.findings.size(), 2u);
  EXPECT_EQ(d.findings[0].symptom, "not_finite");
  EXPECT_EQ(d.findings[1].symptom, "drift");
  EXPECT_THROW(diagnose({}), Error);
  history = {};
  history.steps.push_back({.step = 10, .loss = 3});
  EXPECT_FALSE(diagnose(history).sees_trends());
}

}  // namespace
}  // namespace attune::train

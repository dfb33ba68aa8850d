// Schedules against the packages that have them: PyTorch, transformers, optax, timm, Keras, Megatron, as stored by
// tools/make_schedule_golden.py; and Plateau against PyTorch, observation by observation.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "attune/base/error.hpp"
#include "attune/optim/schedule.hpp"

namespace attune::optim {
namespace {

nlohmann::json stored_schedules() {
  std::ifstream file(ATTUNE_SOURCE_DIR "/tests/golden/schedules.json");
  return nlohmann::json::parse(file);
}

void expect_as_stored(double x, double stored, const std::string& where) {
  EXPECT_NEAR(x, stored, 1e-12 * std::abs(stored) + 1e-15) << where;
}

TEST(ScheduleGolden, FactorsAndMomenta) {
  std::map<std::string, int> rows_of;
  std::set<std::string> kinds;
  int factors = 0, momenta = 0;
  const nlohmann::json stored = stored_schedules();
  for (const auto& row : stored["rows"]) {
    const std::string where = row["source"].get<std::string>() + " " + row["spec"].dump();
    const Schedule s = Schedule::from_json(row["spec"].dump());
    kinds.insert(s.kind());
    ++rows_of[row["source"]];
    for (const auto& [t, value] : row["factors"].get<std::vector<std::pair<std::int64_t, double>>>()) {
      expect_as_stored(s.factor(t), value, where + " at " + std::to_string(t));
      ++factors;
    }
    EXPECT_EQ(row.contains("momenta"), s.momentum(0).has_value()) << where;
    if (!row.contains("momenta")) continue;
    for (const auto& [t, value] : row["momenta"].get<std::vector<std::pair<std::int64_t, double>>>()) {
      expect_as_stored(s.momentum(t).value_or(-1), value, where + ": momentum at " + std::to_string(t));
      ++momenta;
    }
  }
  EXPECT_GE(stored["rows"].size(), 200u);
  EXPECT_GT(factors, 2500);
  EXPECT_GT(momenta, 50);
  for (const char* source : {"torch", "transformers", "optax", "timm", "keras", "megatron-core"}) {
    EXPECT_GE(rows_of[source], 15) << source;
  }
  // All kinds have a package to be compared with but these two, which no package has in closed form; what listens to a
  // plateau is compared below.
  for (const std::string& kind : schedule_kinds())
    EXPECT_TRUE(kinds.count(kind) || kind == "per_group" || kind == "plateau") << kind;
}

/// "base 1; t:value" of the published tables.
TEST(ScheduleGolden, PublishedValues) {
  const auto expect = [](std::string_view json, std::initializer_list<std::pair<std::int64_t, double>> values) {
    const Schedule s = Schedule::from_json(json);
    for (const auto& [t, value] : values) EXPECT_NEAR(s.factor(t), value, 1e-9 * value + 1e-10) << json << " at " << t;
  };
  expect(R"({"kind": "step", "interval": 4, "gamma": 0.5})", {{0, 1}, {3, 1}, {4, .5}, {7, .5}, {8, .25}, {12, .125}});
  expect(R"({"kind": "multistep", "milestones": [3, 8]})", {{2, 1}, {3, .1}, {7, .1}, {8, .01}});
  expect(R"({"kind": "linear_lr", "start_ratio": 0.1, "steps": 8})",
         {{0, .1}, {1, .2125}, {4, .55}, {7, .8875}, {8, 1}});
  expect(R"({"kind": "constant_lr", "ratio": 0.25, "steps": 4})", {{0, .25}, {3, .25}, {4, 1}});
  expect(R"({"kind": "polynomial", "total": 10, "power": 2})", {{1, .81}, {5, .25}, {9, .01}, {10, 0}, {12, 0}});
  expect(R"({"kind": "cosine_annealing", "total": 10, "min_ratio": 0.1, "past_end": "reference"})",
         {{0, 1}, {1, .9779754323}, {5, .55}, {9, .1220245677}, {10, .1}, {15, .55}, {20, 1}});
  expect(R"({"kind": "sgdr", "first_period": 4, "period_factor": 2, "min_ratio": 0.01})",
         {{1, .8550178567}, {3, .1549821433}, {4, 1}, {8, .505}, {11, .04767963141}, {12, 1}});
  expect(R"({"kind": "onecycle", "total": 20})",
         {{0, .04}, {1, .1316718427}, {4, .9083281573}, {5, 1}, {6, .9874640062}, {12, .500002}, {19, 4e-6}});
  expect(R"({"kind": "onecycle", "total": 20, "shape": "linear"})",
         {{1, .232}, {4, .808}, {5, 1}, {6, .9285717143}, {12, .500002}, {19, 4e-6}});
  expect(R"({"kind": "onecycle", "total": 20, "three_phase": true})",
         {{0, .04}, {5, 1}, {8, .3716718427}, {10, .04}, {11, .03879397303}, {19, 4e-6}});
  expect(R"({"kind": "cyclic", "mode": "triangular2", "min_ratio": 0.1, "up": 4})",
         {{0, .1}, {2, .55}, {4, 1}, {6, .55}, {8, .1}, {12, .55}, {16, .1}});
  expect(R"({"kind": "sequential", "milestones": [4], "schedules": [
             {"kind": "linear_lr", "start_ratio": 0.1, "steps": 4},
             {"kind": "cosine_annealing", "period": 8, "min_ratio": 0.05}]})",
         {{0, .1}, {3, .775}, {4, 1}, {5, .9638427779}, {8, .525}, {12, .05}});
  expect(R"({"kind": "inverse_sqrt", "warmup": 4, "warmup_start": "zero", "timescale": 100})",
         {{3, .75}, {16, .9449111825}, {100, .7142857143}});
  expect(R"({"kind": "wsd", "warmup": 4, "warmup_start": "zero", "decay": 8, "total": 20, "min_ratio": 0.1})",
         {{0, .1}, {1, .325}, {4, 1}, {12, 1}, {13, .6818019485}, {16, .3636038969}, {19, .158127088}, {20, .1}});
  expect(R"({"kind": "polynomial", "warmup": 4, "total": 20, "end_ratio": 1e-4})", {{12, .50005}, {20, 1e-4}});
  expect(R"({"kind": "cosine_restarts", "warmup": 4, "total": 20, "cycles": 2})",
         {{8, .5}, {11, .0380602337}, {12, 1}, {16, .5}, {20, 0}});
  expect(R"({"kind": "noam"})",
         {{0, 1.746928107e-7}, {1999, 3.493856215e-4}, {3999, 6.98771243e-4}, {15999, 3.493856215e-4}});
}

schedule::PlateauOptions options_of(const nlohmann::json& row) {
  schedule::PlateauOptions o;
  if (row["mode"] == "max") o.mode = schedule::PlateauMode::max;
  if (row["threshold_mode"] == "absolute") o.threshold_mode = schedule::PlateauThreshold::absolute;
  o.cut = row["cut"], o.patience = row["patience"], o.cooldown = row["cooldown"];
  o.threshold = row["threshold"], o.min_ratio = row["min_ratio"];
  o.nan = schedule::PlateauNan::bad;
  return o;
}

TEST(Plateau, AsInPyTorchAndResumedAfterEveryObservation) {
  const nlohmann::json stored = stored_schedules();
  std::set<double> seen;
  for (const auto& row : stored["plateaus"]) {
    const schedule::PlateauOptions options = options_of(row);
    schedule::Plateau plateau(options);
    for (std::size_t i = 0; i < row["metrics"].size(); ++i) {
      // A run that stops here and goes on: a new object with the state of the old one.
      schedule::Plateau resumed(options);
      resumed.load_state(plateau.state());
      EXPECT_EQ(resumed.state(), plateau.state());
      const auto& metric = row["metrics"][i];
      const double factor = plateau.observe(metric.is_null() ? std::nan("") : metric.get<double>());
      expect_as_stored(factor, row["factors"][i], row.dump() + " at " + std::to_string(i));
      EXPECT_EQ(resumed.observe(metric.is_null() ? std::nan("") : metric.get<double>()), factor);
      seen.insert(factor);
    }
  }
  EXPECT_GT(seen.size(), 20u);
}

TEST(Plateau, PublishedValues) {
  schedule::Plateau plateau(
      {.cut = 0.5, .patience = 1, .threshold = 1e-2, .cooldown = 1, .nan = schedule::PlateauNan::bad});
  const double nan = std::nan("");
  std::vector<double> factors;
  for (const double m : {5., 4., 4., 4., 4., 4., 4., 3., 3., 3., 3., nan, nan, 3.})
    factors.push_back(plateau.observe(m));
  EXPECT_EQ(factors, (std::vector<double>{1, 1, 1, .5, .5, .5, .25, .25, .25, .125, .125, .125, .0625, .0625}));
}

TEST(Plateau, RefusesWhatIsNoNumberUnlessTold) {
  schedule::Plateau plateau;
  plateau.observe(3);
  const schedule::PlateauState before = plateau.state();
  for (const double x : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(plateau.observe(x), Error);
    EXPECT_EQ(plateau.state(), before);
  }
  EXPECT_THROW(schedule::Plateau({.cut = 1}), Error);
  EXPECT_THROW(schedule::Plateau({.patience = -1}), Error);
  EXPECT_THROW(schedule::Plateau({.threshold = std::nan("")}), Error);
  EXPECT_THROW(schedule::Plateau({.threshold = 1.5}), Error);
  EXPECT_THROW(schedule::Plateau({.cooldown = -1}), Error);
  EXPECT_THROW(schedule::Plateau({.min_ratio = 2}), Error);
  EXPECT_THROW(schedule::Plateau({.epsilon = -1}), Error);
  EXPECT_THROW(plateau.load_state({.factor = 2}), Error);
  EXPECT_THROW(plateau.load_state({.best = std::nan("")}), Error);
  EXPECT_THROW(plateau.load_state({.bad = 11}), Error);
  EXPECT_THROW(plateau.load_state({.cooldown_left = 1}), Error);
  EXPECT_EQ(plateau.state(), before);
}

}  // namespace
}  // namespace attune::optim

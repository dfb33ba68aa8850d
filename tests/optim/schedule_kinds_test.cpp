// What every schedule promises, whatever its formula: no NaN at any edge, three policies past the end, text that gives
// the same factors back, and errors when it is made rather than when it is asked. New kinds are covered by their name
// in the list of schedules.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>

#include "attune/base/error.hpp"
#include "attune/optim/schedule.hpp"
#include "message_of.hpp"

namespace attune::optim {
namespace {

using testing::message_of;

/// What a kind cannot do without beside a total.
std::string needed(const std::string& kind) {
  const std::map<std::string, std::string> needs{
      {"wsd", R"(, "decay": 0)"},
      {"multistep", R"(, "milestones": [0.5, 3, 3])"},
      {"piecewise_constant", R"(, "milestones": [0.25, 0.5], "scales": [0.5, 0.25])"},
      {"interpolate", R"(, "milestones": [0.25, 0.5], "scales": [0.5, 0.25])"},
      {"cyclic", R"(, "up": 0.25)"},
      {"sgdr", R"(, "first_period": 3, "period_factor": 2)"},
      {"sequential", R"(, "milestones": [0.5], "schedules": [{"kind": "linear"}, {"kind": "cosine"}])"},
      {"chained", R"(, "schedules": [{"kind": "linear"}, {"kind": "cosine"}])"},
      {"per_group", R"(, "groups": {"query": {"kind": "linear"}, "otherwise": {"kind": "cosine"}})"}};
  const auto found = needs.find(kind);
  return found == needs.end() ? "" : found->second;
}

bool has_field(const std::string& kind, std::string_view field) {
  const std::vector<std::string> fields = schedule_fields(kind);
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}

/// A schedule of that kind with this warm-up, if it has one, and end. `more` may be further fields.
Schedule example(const std::string& kind, double warmup, std::int64_t total, const std::string& more = "") {
  const std::string start = has_field(kind, "warmup") ? fmt::format(R"(, "warmup": {})", warmup) : "";
  return Schedule::from_json(
      fmt::format(R"({{"kind": "{}", "total": {}{}{}{}}})", kind, total, start, needed(kind), more));
}

TEST(ScheduleKinds, AreFiniteAtEveryEdge) {
  EXPECT_GE(schedule_kinds().size(), 29u);
  for (const std::string& kind : schedule_kinds()) {
    for (const auto& [W, T] :
         std::vector<std::pair<double, std::int64_t>>{{0, 20}, {4, 20}, {0.25, 20}, {20, 20}, {0, 1}, {1, 1}, {0, 2}}) {
      if (kind == "warmup_cosine" && double(T) == W) continue;  // an error, below
      for (const char* start : {"nonzero", "zero", "value"}) {
        if (!has_field(kind, "warmup_start") && start != std::string("nonzero")) continue;
        const bool has_start = has_field(kind, "warmup_start");
        const Schedule s = example(kind, W, T, has_start ? fmt::format(R"(, "warmup_start": "{}")", start) : "");
        for (std::int64_t t = 0; t <= 3 * T + 3; ++t) {
          const double f = s.factor(t), m = s.momentum(t).value_or(0.5);
          EXPECT_TRUE(std::isfinite(f) && f >= 0 && f <= 1) << s.json() << " at " << t << ": " << f;
          EXPECT_TRUE(m > 0 && m < 1) << s.json() << " at " << t << ": " << m;
        }
      }
    }
    EXPECT_THROW(example(kind, 0, 20).factor(-1), Error);
    EXPECT_THROW(example(kind, 0, 20).momentum(-1), Error);
  }
}

TEST(ScheduleKinds, PastTheEnd) {
  for (const std::string& kind : schedule_kinds()) {
    if (!has_field(kind, "past_end")) continue;
    // The last update of these two has the last value; the formulas go on to T.
    const std::int64_t last = kind == "onecycle" || kind == "cosine_min_lr_warm" ? 19 : 20;
    const Schedule hold = example(kind, 4, 20), reference = example(kind, 4, 20, R"(, "past_end": "reference")"),
                   error = example(kind, 4, 20, R"(, "past_end": "error")");
    for (std::int64_t t = 0; t <= last; ++t) {
      EXPECT_EQ(hold.factor(t), reference.factor(t)) << kind << t;
      EXPECT_EQ(hold.factor(t), error.factor(t)) << kind << t;
    }
    for (const std::int64_t t : {20, 21, 40, 100'000}) {
      EXPECT_EQ(hold.factor(t), hold.factor(last)) << kind << t;
      EXPECT_EQ(hold.momentum(t), hold.momentum(last)) << kind << t;
      if (t > 20) {
        const std::string expected = fmt::format("schedule {}: a step of at most 20, got {}", kind, t);
        EXPECT_EQ(message_of([&] { error.factor(t); }), expected);
      }
    }
    error.factor(20);  // the last step that there is
  }
  // Where the formula goes on.
  EXPECT_NEAR(example("cosine", 0, 20, R"(, "past_end": "reference")").factor(40), 1, 1e-15);
  EXPECT_EQ(example("step", 0, 20, R"(, "gamma": 0.5, "past_end": "reference")").factor(30), std::pow(0.5, 30));
  EXPECT_EQ(example("sgdr", 0, 20, R"(, "past_end": "reference")").factor(21), 1);
  EXPECT_EQ(example("linear_lr", 0, 20, R"(, "past_end": "reference")").factor(30), 1);
  EXPECT_THROW(example("onecycle", 0, 20, R"(, "past_end": "reference")").factor(21), Error);
}

TEST(ScheduleKinds, TextGivesTheSameFactorsBackAfterEveryStep) {
  for (const std::string& kind : schedule_kinds()) {
    const Schedule s = example(kind, 7, 50);
    EXPECT_EQ(s.kind(), kind);
    const Schedule again = Schedule::from_json(s.json());
    EXPECT_EQ(again.spec(), s.spec()) << s.json();
    EXPECT_EQ(complete_spec(s.spec()), s.spec());
    // There is no state: stopping at k and going on is asking a new object for k, k + 1, ...
    for (std::int64_t k = 0; k < 60; ++k) {
      const Schedule resumed = Schedule::from_spec(s.spec());
      EXPECT_EQ(resumed.factor(k), s.factor(k)) << kind << k;
      EXPECT_EQ(again.momentum(k), s.momentum(k)) << kind << k;
    }
    std::vector<std::string> fields;
    for (const auto& field : s.spec().fields) fields.push_back(field.first);
    EXPECT_EQ(fields, schedule_fields(kind));
    fields.clear();
    for (const auto& field : complete_spec({kind, {}}).fields) fields.push_back(field.first);
    EXPECT_EQ(fields, schedule_fields(kind));
  }
}

TEST(ScheduleKinds, RefuseNumbersThatAreNone) {
  for (const std::string& kind : schedule_kinds()) {
    const ScheduleSpec whole = example(kind, 7, 50).spec();
    for (const auto& [name, value] : whole.fields) {
      if (!std::holds_alternative<double>(value)) continue;
      for (const double bad : {std::nan(""), -1.0, HUGE_VAL}) {
        ScheduleSpec spec = whole;
        spec.fields.emplace_back(name, bad);
        const bool negative_is_fine = bad == -1 && kind == "tanh" && (name == "lower" || name == "upper");
        if (negative_is_fine) continue;
        EXPECT_THROW(Schedule::from_spec(spec), Error) << kind << " " << name << " " << bad;
      }
      ScheduleSpec text = whole;
      text.fields.emplace_back(name, "many");
      EXPECT_THROW(Schedule::from_spec(text), Error) << kind << " " << name;
    }
    ScheduleSpec unknown = whole;
    unknown.fields.emplace_back("totl", 3.0);
    EXPECT_NE(message_of([&] { Schedule::from_spec(unknown); }).find("the nearest is `total`"), std::string::npos);
    EXPECT_NE(message_of([&] { complete_spec(unknown); }).find("the nearest is `total`"), std::string::npos);
  }
  EXPECT_THROW(example("warmup_cosine", 20, 20), Error);
  EXPECT_THROW(example("polynomial", 0, 20, R"(, "end_ratio": 1)"), Error);
  EXPECT_THROW(example("tanh", 0, 20, R"(, "lower": 4)"), Error);
  EXPECT_THROW(example("onecycle", 0, 20, R"(, "rise": 0.6, "three_phase": true)"), Error);
  EXPECT_THROW(example("onecycle", 0, 20, R"(, "shape": "1-sqrt")"), Error);
  EXPECT_THROW(example("onecycle", 0, 20, R"(, "max_momentum": 1)"), Error);
  EXPECT_THROW(example("onecycle_optax", 0, 20, R"(, "shape": "linear", "back": 0.1)"), Error);
  EXPECT_THROW(example("interpolate", 0, 20, R"(, "milestones": [5, 4])"), Error);
  EXPECT_THROW(example("interpolate", 0, 20, R"(, "scales": [1])"), Error);
  EXPECT_THROW(example("piecewise_constant", 0, 20, R"(, "scales": [1, -1])"), Error);
  EXPECT_THROW(example("cosine_restarts", 0, 20, R"(, "cycles": 0)"), Error);
  EXPECT_THROW(example("cosine_restarts", 0, 20, R"(, "cycles": 1.5)"), Error);
  EXPECT_THROW(example("step", 0, 20, R"(, "interval": 0)"), Error);
  EXPECT_THROW(example("exponential", 0, 20, R"(, "staircase": 1)"), Error);
  EXPECT_THROW(example("lr_range", 0, 20, R"(, "start_ratio": 0)"), Error);
  EXPECT_EQ(
      message_of([] { Schedule::from_json(R"({"kind": "multistep", "milestones": [0.5]})"); }),
      "schedule multistep: `milestones`, a share below 1 or a whole number of steps, got the share 0.5 of a total "
      "that is not given");
}

TEST(ScheduleKinds, FallAfterTheWarmUp) {
  for (const char* kind : {"linear", "cosine", "noam", "inverse_sqrt", "wsd", "cosine_min_lr_warm", "cosine_restarts",
                           "polynomial", "tanh", "warmup_cosine", "warmup_exp", "step", "multistep", "exponential",
                           "inverse_time", "cosine_annealing", "piecewise_constant", "interpolate"}) {
    const std::int64_t W = has_field(kind, "warmup") ? 50 : 0;
    const Schedule s = example(kind, double(W), 400);
    for (std::int64_t t = 1; t < W; ++t) EXPECT_GT(s.factor(t), s.factor(t - 1)) << kind << " at " << t;
    for (std::int64_t t = W + 1; t <= 400; ++t) EXPECT_LE(s.factor(t), s.factor(t - 1)) << kind << " at " << t;
  }
  for (const char* kind : {"linear_lr", "constant_lr", "lr_range"}) {
    const Schedule s = example(kind, 0, 400);
    for (std::int64_t t = 1; t <= 400; ++t) EXPECT_GE(s.factor(t), s.factor(t - 1)) << kind << " at " << t;
  }
}

TEST(ScheduleKinds, MomentumGoesAgainstTheRate) {
  const Schedule one = example("onecycle", 0, 100);
  EXPECT_DOUBLE_EQ(one.momentum(0).value(), 0.95);
  EXPECT_DOUBLE_EQ(one.momentum(29).value(), 0.85);
  EXPECT_DOUBLE_EQ(one.momentum(99).value(), 0.95);
  EXPECT_EQ(one.factor(29), 1);
  const Schedule cyclic = example("cyclic", 0, 100);
  EXPECT_DOUBLE_EQ(cyclic.momentum(0).value(), 0.9);
  EXPECT_DOUBLE_EQ(cyclic.momentum(25).value(), 0.8);
  EXPECT_FALSE(example("onecycle", 0, 100, R"(, "cycle_momentum": false)").momentum(3));
  EXPECT_FALSE(example("linear", 0, 100).momentum(3));
  const Schedule both = Schedule::from_json(
      R"({"kind": "sequential", "total": 20, "milestones": [10], "schedules": [{"kind": "onecycle"}, {"kind": "linear"}]})");
  EXPECT_TRUE(both.momentum(9));
  EXPECT_FALSE(both.momentum(10));
  EXPECT_EQ(
      Schedule(schedule::Chained{.schedules = {schedule::Constant{}, schedule::OneCycle{.total = 10}}}).momentum(2),
      schedule::OneCycle{.total = 10}.momentum(2));
}

TEST(ScheduleKinds, SequentialHandsTheTotalsDown) {
  const Schedule s = Schedule::from_json(R"({"kind": "sequential", "total": 100, "milestones": [0.1, 60], "schedules": [
      {"kind": "linear_lr", "start_ratio": 0, "steps": 10}, {"kind": "linear"}, {"kind": "cosine", "total": 20}]})");
  EXPECT_EQ(s.factor(5), 0.5);
  EXPECT_EQ(s.factor(10), 1);
  EXPECT_EQ(s.factor(35), 0.5);  // half of its 50 steps
  EXPECT_EQ(s.factor(60), 1);
  EXPECT_NEAR(s.factor(70), 0.5, 1e-15);
  EXPECT_NEAR(s.factor(95), 0, 1e-15);
  const auto& parts = std::get<std::vector<ScheduleSpec>>(s.spec().fields[0].second);
  EXPECT_EQ(parts[1], Schedule(schedule::Linear{.total = 50}).spec());
  // A part without length is never asked.
  const Schedule jump = Schedule::from_json(R"({"kind": "sequential", "total": 10, "milestones": [5, 5], "schedules": [
      {"kind": "constant"}, {"kind": "linear"}, {"kind": "constant_lr", "ratio": 0.5, "steps": 10}]})");
  EXPECT_EQ(jump.factor(4), 1);
  EXPECT_EQ(jump.factor(5), 0.5);
  const Schedule overlaid = Schedule::from_json(R"({"kind": "sequential", "total": 100, "restart": false,
      "milestones": [10], "schedules": [{"kind": "constant_lr", "ratio": 0.5, "steps": 10}, {"kind": "linear"}]})");
  EXPECT_EQ(overlaid.factor(50), 0.5);  // as if the first had not been
  EXPECT_EQ(overlaid.factor(9), 0.5);
  EXPECT_THROW(Schedule(schedule::Sequential{}), Error);
  EXPECT_THROW(Schedule(schedule::Sequential{.schedules = {schedule::Constant{}}, .milestones = {3}}), Error);
}

TEST(ScheduleKinds, ChainedIsTheProduct) {
  const Schedule s = Schedule::from_json(
      R"({"kind": "chained", "total": 40, "schedules": [{"kind": "linear"}, {"kind": "step", "interval": 10, "gamma": 0.5}]})");
  for (std::int64_t t = 0; t <= 40; ++t) EXPECT_EQ(s.factor(t), double(40 - t) / 40 * std::pow(0.5, double(t / 10)));
  EXPECT_THROW(Schedule(schedule::Chained{}), Error);
  const Schedule unwritten =
      schedule::Chained{.schedules = {schedule::Constant{}, Schedule::from_function([](auto) { return 0.5; })}};
  EXPECT_EQ(unwritten.factor(3), 0.5);
  EXPECT_FALSE(unwritten.has_spec());
  EXPECT_THROW(unwritten.json(), Error);
}

TEST(ScheduleKinds, PerGroup) {
  const Schedule s = Schedule::from_json(R"({"kind": "per_group", "total": 10, "groups": {
      "query": {"kind": "linear"}, "key": {"kind": "constant"}, "otherwise": {"kind": "linear", "min_ratio": 0.5}}})");
  EXPECT_EQ(s.groups(), (std::vector<std::string>{"query", "key"}));
  EXPECT_EQ(s.for_group("query").factor(10), 0);
  EXPECT_EQ(s.for_group("key").factor(10), 1);
  EXPECT_EQ(s.for_group("norm").factor(10), 0.5);
  EXPECT_EQ(s.factor(10), 0.5);
  s.check_groups({"norm", "key", "query"});
  EXPECT_EQ(message_of([&] {
              s.check_groups({"norm", "key", "querry"});
            }),
            "schedule per_group: a group of norm, key, querry, got `query`; the nearest is `querry`");
  const Schedule plain = schedule::Linear{.total = 10};
  EXPECT_TRUE(plain.groups().empty());
  EXPECT_EQ(plain.for_group("query").factor(5), 0.5);
  plain.check_groups({});
  EXPECT_THROW(Schedule(schedule::PerGroup{.groups = {{"query", schedule::Constant{}}}}), Error);
  EXPECT_THROW(
      Schedule(schedule::PerGroup{
          .groups = {{"a", schedule::Constant{}}, {"a", schedule::Constant{}}, {"otherwise", schedule::Constant{}}}}),
      Error);
  EXPECT_THROW(Schedule(schedule::Chained{.schedules = {s}}), Error);
}

TEST(ScheduleKinds, LengthsInOtherUnits) {
  const ScheduleSpec spec =
      spec_from_json(R"({"kind": "sequential", "total": "10 epochs", "milestones": ["1 epoch", 0.5],
      "schedules": [{"kind": "linear", "warmup": "100 steps"}, {"kind": "constant"},
                    {"kind": "wsd", "decay": "2.5e6 tokens", "warmup": "10 %"}]})");
  EXPECT_TRUE(counts_in_data(spec));
  EXPECT_EQ(spec_from_json(json_of(spec)), spec);
  const Schedule s = Schedule::from_spec(in_steps(spec, {.steps_per_epoch = 200.4, .tokens_per_step = 10'000}));
  const ScheduleSpec expected = spec_from_json(R"({"kind": "sequential", "total": 2004, "milestones": [200, 0.5],
      "schedules": [{"kind": "linear", "warmup": 100}, {"kind": "constant"}, {"kind": "wsd", "decay": 250, "warmup": 0.1}]})");
  EXPECT_EQ(s.spec(), Schedule::from_spec(expected).spec());
  EXPECT_EQ(message_of([&] { Schedule::from_spec(spec); }),
            "schedule sequential: `total` in steps or as a share where the length of an epoch is not known, got \"10 "
            "epochs\"");
  EXPECT_FALSE(counts_in_data(expected));
  // Steps and shares need to know nothing; a length above 0 stays one.
  EXPECT_EQ(Schedule::from_json(R"({"kind": "linear", "warmup": "50 %", "total": "20 steps"})").factor(4), 0.5);
  const ScheduleSpec tiny{"linear", {{"warmup", "1 token"}, {"total", "1 epoch"}}};
  EXPECT_EQ(in_steps(tiny, {.steps_per_epoch = 7, .tokens_per_step = 1000}),
            (ScheduleSpec{"linear", {{"warmup", 1.0}, {"total", 7.0}}}));
  for (const char* text : {"2 moons", "epochs", "-1 epochs", "nan steps", "120 %", "2", ""}) {
    EXPECT_THROW(in_steps({"linear", {{"warmup", text}}}, {.steps_per_epoch = 7}), Error) << text;
  }
  EXPECT_THROW(in_steps({"linear", {{"min_ratio", "1 epoch"}, {"totl", 3.0}}}, {}), Error);
  EXPECT_THROW(Schedule::from_spec({"linear", {{"min_ratio", "1 epoch"}, {"total", 3.0}}}), Error);
}

TEST(ScheduleKinds, AreInTheDocumentsWithTheirDefaults) {
  for (const char* page : {"/docs/schedules.md", "/docs/schedules.zh.md"}) {
    std::ifstream file(std::string(ATTUNE_SOURCE_DIR) + page);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    for (const std::string& kind : schedule_kinds()) {
      EXPECT_NE(text.find("\n" + json_of(complete_spec({kind, {}})) + "\n"), std::string::npos) << page << " " << kind;
      EXPECT_NE(text.find("\n| `" + kind + "` |"), std::string::npos) << page << " " << kind;
    }
  }
}

TEST(ScheduleKinds, DefaultWarmup) {
  EXPECT_EQ(default_warmup(10'000, 0.95), 100);  // 1 %
  EXPECT_EQ(default_warmup(2000, 0.95), 40);     // 2 / (1 - beta2)
  EXPECT_EQ(default_warmup(100'000, 0.999), 2000);
  EXPECT_EQ(default_warmup(5000, 0.999), 500);  // 10 %
  EXPECT_EQ(default_warmup(1000, 0.9), 20);     // 2 / 0.09999999999999998 is 20
  EXPECT_EQ(default_warmup(5, 0.95), 0);
  EXPECT_THROW(default_warmup(0, 0.9), Error);
  EXPECT_THROW(default_warmup(10, 1), Error);
  EXPECT_THROW(default_warmup(10, std::nan("")), Error);
}

}  // namespace
}  // namespace attune::optim

// The factors of a learning rate, against what a run wrote into its log.
#include "attune/train/explain_rate.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/run.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/run_log_reader.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

constexpr const char* kRecipe = R"(task = "recall"
[model]
kind = "gpt"
num_layers = 2
model_dim = 16
num_heads = 2
[model.attention]
position = "rotary"
[train]
steps = 12
batch_tokens = 64
log_every = 4
validate_every = 0
[optimizer]
learning_rate = 4e-3
[schedule]
kind = "linear"
warmup = 4
[guard]
mode = "lr"
limit = 0.001
)";

double factor_named(const RateOfRows& rows, std::string_view name) {
  for (const optim::RateFactor& f : rows.factors)
    if (f.name == name) return f.value;
  return std::nan("");
}

TEST(ExplainRate, NamesAsPeopleWriteThem) {
  EXPECT_EQ(rate_name("L2.Wq.h1"), "layer2.attention.query.head1");
  EXPECT_EQ(rate_name("layers.2.attention.query.head1"), "layer2.attention.query.head1");
  EXPECT_EQ(rate_name("encoder.layer0.self_attention.Wk"), "encoder.layer0.self_attention.key");
  EXPECT_EQ(rate_name("encoder.layer0.attention.weight_in"), "encoder.layer0.attention.weight_in");
  EXPECT_EQ(rate_name("head"), "head");
}

TEST(ExplainRate, FactorsAreThoseOfTheLog) {
  tiny::Folder folder;
  start_run(parse_config(kRecipe), folder / "run", folder / "data");
  const RunHistory history = read_run_log(RunFiles(folder / "run").log);
  ASSERT_EQ(history.steps.size(), 3u);
  for (const StepLine& line : history.steps) {
    for (const HeadsLine& heads : history.heads) {
      if (heads.step != line.step) continue;
      const double least = std::min(heads.factor.at(0), heads.factor.at(1));
      EXPECT_LT(least, 1) << "so tight a limit holds every head back";
      for (int h = 0; h < 2; ++h) {
        const std::string name = heads.layer + ".query.head" + std::to_string(h);
        const RateExplanation e = explain_rate(folder / "run", name, line.step);
        ASSERT_FALSE(e.rows.empty());
        EXPECT_EQ(e.line_step, line.step);
        EXPECT_TRUE(e.notes.empty());
        const RateOfRows& rows = e.rows.front();
        EXPECT_EQ(factor_named(rows, "base"), 4e-3);
        EXPECT_NEAR(factor_named(rows, "schedule"), line.schedule, 1e-15);
        EXPECT_EQ(factor_named(rows, "guard"), heads.factor[std::size_t(h)]);
        EXPECT_NEAR(rows.rate(), line.learning_rate * heads.factor[std::size_t(h)], 1e-12);
        EXPECT_NEAR(e.logged_rate, line.learning_rate, 1e-15);
      }
    }
  }
  // Outside of queries and keys no guard acts; between two lines the answer says what it does not know.
  const RateExplanation values = explain_rate(folder / "run", "L1.Wv", 6);
  EXPECT_EQ(values.line_step, 4);
  ASSERT_EQ(values.notes.size(), 1u);
  for (const RateOfRows& rows : values.rows) {
    EXPECT_EQ(rows.role, Role::value);
    EXPECT_EQ(factor_named(rows, "guard"), 1);
    EXPECT_NEAR(factor_named(rows, "schedule"), make_schedule(parse_config(kRecipe)).factor(5), 1e-15);
  }
  EXPECT_EQ(explain_rate(folder / "run", "L0.Wo").step, 12) << "the last one";
  EXPECT_THROW(explain_rate(folder / "run", "L7.Wq"), Error);
  EXPECT_THROW(explain_rate(folder / "run", "L0.Wq", 13), Error);
  EXPECT_THROW(explain_rate(folder / "nowhere", "L0.Wq"), Error);
}

TEST(ExplainRate, GroupsAreNamed) {
  tiny::Folder folder;
  RunConfig config = parse_config(kRecipe);
  config.guard.mode = "off";
  config.optimizer.groups.roles = {{Role::query, 0.5}};
  config.optimizer.groups.layers = {1, 0.25};
  start_run(config, folder / "run", folder / "data");
  const RateExplanation e = explain_rate(folder / "run", "layers.layer1.attention.query");
  ASSERT_FALSE(e.rows.empty());
  EXPECT_EQ(factor_named(e.rows[0], "role query"), 0.5);
  EXPECT_EQ(factor_named(e.rows[0], "layer 2"), 0.25);
  EXPECT_NEAR(e.rows[0].rate(), 4e-3 * make_schedule(config).factor(11) * 0.125, 1e-15);
  EXPECT_NE(rate_text(e.rows[0].factors).find("0.5 role query"), std::string::npos) << rate_text(e.rows[0].factors);
}

}  // namespace
}  // namespace attune::train

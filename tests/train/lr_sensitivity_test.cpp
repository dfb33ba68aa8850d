#include "attune/train/lr_sensitivity.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/train/chart.hpp"
#include "message_of.hpp"

namespace attune::train {
namespace {

using attune::testing::message_of;

TEST(LrSensitivity, IsTheMeanExcessAndTheUsableWidth) {
  // Best 1 at 1e-2; start 3, so usable up to 1.1: half-way between 1e-3 (1.2) and 1e-2, a tenth of the way to 1e-1 (2).
  const RateOutcome grid[] = {{1e-4, 2.5}, {1e-3, 1.2}, {1e-2, 1.0}, {1e-1, 2.0}, {1.0, 7.0}};
  const LrSensitivity s = lr_sensitivity(grid, 3.0);
  EXPECT_NEAR(s.lrs, (1.5 + 0.2 + 0 + 1 + 2) / 5, 1e-15);  // 7 counts as the start, 3
  EXPECT_NEAR(s.lrs_right, (0.0 + 1 + 2) / 3, 1e-15);
  EXPECT_EQ(s.best_learning_rate, 1e-2);
  EXPECT_EQ(s.best_loss, 1.0);
  EXPECT_NEAR(s.width, 0.5 + 0.1, 1e-12);
  EXPECT_NEAR(s.usable_from, std::pow(10.0, -2.5), 1e-12);
  EXPECT_NEAR(s.usable_to, std::pow(10.0, -1.9), 1e-12);
  EXPECT_FALSE(s.first_diverged);
}

TEST(LrSensitivity, ADivergedRunCountsAsTheStart) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const RateOutcome grid[] = {{1e-3, 1.0}, {1e-2, nan, true}, {1e-1, 0.5, true}};
  const LrSensitivity s = lr_sensitivity(grid, 2.0);
  EXPECT_NEAR(s.lrs, (0.0 + 1 + 1) / 3, 1e-15);
  EXPECT_EQ(s.first_diverged, 1e-2);
  EXPECT_EQ(s.usable_from, 1e-3);
}

TEST(LrSensitivity, RefusesWhatIsNoGrid) {
  const RateOutcome one[] = {{1e-3, 1.0}}, backwards[] = {{1e-2, 1.0}, {1e-3, 1.0}},
                    none[] = {{1e-3, 1.0, true}, {1e-2, 1.0, true}};
  EXPECT_NE(message_of([&] { lr_sensitivity(one, 2); }).find("two outcomes"), std::string::npos);
  EXPECT_NE(message_of([&] { lr_sensitivity(backwards, 2); }).find("increasing"), std::string::npos);
  EXPECT_NE(message_of([&] { lr_sensitivity(none, 2); }).find("not diverged"), std::string::npos);
}

TEST(Chart, DrawsLinesBandsHollowMarkersAndRules) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ChartOptions options{.title = "Loss < start", .x_label = "learning rate", .y_label = "loss", .log_x = true};
  options.rules_y.push_back({3, "start"});
  options.spans.push_back({0, 1e-3, 1e-2});
  const std::string svg = chart_svg(
      options, {{.name = "base",
                 .points = {{.x = 1e-3, .y = 2, .low = 1.8, .high = 2.2, .note = "seed 1"},
                            {.x = 1e-2, .y = 1, .low = 0.9, .high = 1.2},
                            {.x = 1e-1, .y = 3, .hollow = true}}},
                {.name = "guard", .points = {{.x = 1e-3, .y = 2}, {.x = 1e-2, .y = nan}, {.x = 1e-1, .y = 1}}}});
  EXPECT_NE(svg.find("Loss &lt; start"), std::string::npos);
  EXPECT_NE(svg.find("<title>seed 1</title>"), std::string::npos);
  EXPECT_NE(svg.find("opacity=\"0.13\""), std::string::npos);  // a band
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_NE(svg.find("class=\"paper\" stroke="), std::string::npos);  // a hollow marker
  EXPECT_NE(message_of([&] { chart_svg(options, {{.name = "x", .points = {{.x = -1, .y = 1}}}}); }).find("drawn"),
            std::string::npos);
}

}  // namespace
}  // namespace attune::train

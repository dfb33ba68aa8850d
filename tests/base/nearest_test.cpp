// Edit distances known by hand, and the words that were meant.
#include "attune/base/nearest.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace attune {
namespace {

TEST(Nearest, CountsEdits) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("warmpu", "warmup"), 1u);  // neighbours exchanged
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);         // restricted: a place is not edited twice
}

TEST(Nearest, FindsTheWordThatWasMeant) {
  const std::vector<std::string> known{"batch_tokens", "label_smoothing", "minutes", "steps"};
  EXPECT_EQ(nearest("batch_token", known), "batch_tokens");
  EXPECT_EQ(nearest("minuets", known), "minutes");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace attune

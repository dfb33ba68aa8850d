// The contract test for stages of one's own: it passes what is right, and every kind of mistake is found and named.
#include "attune/attention/check_stage.hpp"

#include <gtest/gtest.h>

#include "attune/attention/formulas/normalizers.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/mask/window.hpp"
#include "attune/attention/normalize/sparsemax.hpp"
#include "attune/base/error.hpp"
#include "message_of.hpp"

namespace attune {
namespace {

using testing::message_of;

/// Two small shapes: the verdicts are the same, and sooner.
StageCheck small() { return {.shapes = {{1, 2, 1, 5, 7, 4, 4, 3}, {1, 2, 1, 6, 3, 4, 4, 3}}}; }

bool failed_at(const StageReport& report, const std::string& what) {
  for (const std::string& f : report.failed) {
    if (f.find(what) != std::string::npos) return true;
  }
  return false;
}

/// x -> x + gain x^2 with a learned gain; the mistake is in one place.
enum class Mistake { none, value, gradient, parameter, second };
template <Mistake kMistake>
struct Bend {
  static constexpr bool saves = true;
  std::vector<ParameterSpec> parameters(const AttendShape&) const { return {{"gain", {1}, Per::head}}; }
  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const {
    const T gain = call.parameter[0].value[0];
    if (saved) each(x, *saved, [](T& logit, T& before) { before = logit; });
    each(x, [=](T& logit, int, int) {
      logit = logit + gain * logit * logit;
      if (kMistake == Mistake::value) logit = logit + T(1e-6) * logit;
    });
  }
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const {
    T gain = call.parameter[0].value[0];
    const T half = T(kMistake == Mistake::parameter ? 0.5 : 1);
    call.parameter[0].grad[0] += sum_each(*saved, dx, [=](T x, T d) { return half * d * x * x; });
    if constexpr (is_dual<T> && kMistake == Mistake::second) gain = T(gain.v);  // forgets that the gain moves
    each(*saved, dx, [=](T x, T& d) { d *= T(1) + T(kMistake == Mistake::gradient ? 1 : 2) * gain * x; });
  }
};
const formula::BiasFormula kBend = [](const formula::Pair& at, auto x, auto arrays) {
  return x + arrays[0][std::size_t(at.head)] * x * x;
};
template <Mistake kMistake>
StageReport bent() {
  return check_stage({.bias = Bend<kMistake>{}}, {.bias = {kBend}}, small());
}

TEST(CheckStage, PassesWhatIsRight) {
  const StageReport right = bent<Mistake::none>();
  EXPECT_TRUE(right.exact()) << right.text();
  EXPECT_EQ(right.combinations, 6);
  EXPECT_GT(right.backward_float32, 0);
  right.expect_exact();
  EXPECT_NE(right.text().find("6 combinations, exact"), std::string::npos);

  const StageReport kinks = check_stage({.normalizer = Sparsemax{}}, {.normalizer = formula::sparsemax()},
                                        {.kinks = true, .shapes = small().shapes});
  EXPECT_TRUE(kinks.exact()) << kinks.text();
}

TEST(CheckStage, FindsEachMistake) {
  const StageReport value = bent<Mistake::value>(), gradient = bent<Mistake::gradient>();
  EXPECT_TRUE(failed_at(value, "forward"));
  EXPECT_TRUE(failed_at(gradient, "backward") && failed_at(gradient, "adjoint") && failed_at(gradient, "Taylor"));
  EXPECT_FALSE(failed_at(gradient, "forward"));
  EXPECT_TRUE(failed_at(bent<Mistake::parameter>(), "backward"));
  const StageReport second = bent<Mistake::second>();
  EXPECT_TRUE(failed_at(second, "Hessian"));
  EXPECT_FALSE(failed_at(second, "backward"));
  EXPECT_NE(message_of([&] { value.expect_exact(); }).find("check_stage: a stage that is exact"), std::string::npos);
}

/// Sees what is at most three keys back; the mistake is in one of its members.
enum class Wrong { none, keys, cover, bits };
template <Wrong kWrong>
struct Near {
  Range keys(const Area& a) const {
    const int first = a.query + a.offset;
    return {first - (kWrong == Wrong::keys ? 2 : 3), first + a.queries};
  }
  Cover cover(const Area& a) const {
    if (kWrong == Wrong::cover) return Cover::full;
    return Window{.left = 3, .right = 0}.cover(a);
  }
  void visible(const Area& a, std::uint64_t* rows) const {
    Window{.left = kWrong == Wrong::bits ? 4 : 3, .right = 0}.visible(a, rows);
  }
};
template <Wrong kWrong>
StageReport seen() {
  return check_stage(
      {.mask = Near<kWrong>{}},
      {.mask = [](const formula::Pair& at) { return at.key <= at.position() && at.key >= at.position() - 3; }},
      small());
}

TEST(CheckStage, HoldsMasksToWhatTheyPromise) {
  const StageReport right = seen<Wrong::none>();
  EXPECT_TRUE(right.exact()) << right.text();
  EXPECT_TRUE(failed_at(seen<Wrong::keys>(), "keys()"));
  EXPECT_TRUE(failed_at(seen<Wrong::cover>(), "cover()"));
  EXPECT_TRUE(failed_at(seen<Wrong::bits>(), "visible()"));
}

TEST(CheckStage, WantsAFormulaForEachStage) {
  EXPECT_EQ(message_of([] { check_stage({.mask = Causal{}}, {}); }),
            "check_stage: a plain formula of the mask causal, none");
  EXPECT_EQ(message_of([] { check_stage({.bias = Bend<Mistake::none>{}}, {}); }),
            "check_stage: 1 plain formulas of biases, got 0");
}

}  // namespace
}  // namespace attune

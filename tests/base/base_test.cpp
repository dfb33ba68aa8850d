// Errors, shapes, views, and which instruction set is in use.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"
#include "attune/base/shape.hpp"
#include "attune/base/view.hpp"

namespace attune {
namespace {

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Error, ReadsFunctionExpectationFinding) {
  EXPECT_EQ(message_of([] { fail("attend", "a key", "got none"); }), "attend: a key, got none");
  EXPECT_EQ(message_of([] { expect(true, "f", "e", "g"); }), "");
  EXPECT_EQ(message_of([] { expect(false, "f", "e", "g"); }), "f: e, g");
}

TEST(Shape, KnowsItsExtents) {
  const Shape s{2, 3, 5};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s.size(), 30);
  EXPECT_EQ(s.back(), 5);
  EXPECT_EQ(s.back(1), 3);
  EXPECT_EQ(s.text(), "[2, 3, 5]");
  EXPECT_EQ(s.with(-1, 7), (Shape{2, 3, 7}));
  EXPECT_EQ(s.with(0, 0).size(), 0);
  EXPECT_NE(s, (Shape{2, 3}));
  EXPECT_EQ(Shape().size(), 1);
  EXPECT_EQ(Shape().text(), "[]");
}

TEST(Shape, SaysWhatIsWrong) {
  EXPECT_EQ(message_of([] { Shape{2, -1}; }), "Shape: extents of at least 0, got -1 at index 1");
  EXPECT_EQ(message_of([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), "Shape: rank 0 to 8, got 9");
  EXPECT_EQ(message_of([] { return Shape{2, 3}.with(2, 1); }), "Shape::with: an index into [2, 3], got 2");
}

TEST(View, StridesAndTransposition) {
  float numbers[24];
  for (int i = 0; i < 24; ++i) numbers[i] = float(i);
  const View v(numbers, {2, 3, 4});
  EXPECT_EQ(v.strides[0], 12);
  EXPECT_EQ(v.strides[1], 4);
  EXPECT_EQ(v.strides[2], 1);
  const ConstView t = v.transposed(0, 1);
  EXPECT_EQ(t.shape, (Shape{3, 2, 4}));
  // t[2][1][3] is v[1][2][3]: the same memory, read in another order.
  EXPECT_EQ(static_cast<const float*>(t.data)[2 * t.strides[0] + 1 * t.strides[1] + 3], 23.0f);
  EXPECT_TRUE(View().empty());
  EXPECT_FALSE(v.empty());
}

/// Runs f with ATTUNE_CPU set to a text, in a process of its own: the choice is made once. 0: an Error with this in it.
int exit_code_with(const char* text, const std::string& expected) {
  setenv("ATTUNE_CPU", text, 1);
  const std::string message = message_of([] { cpu_target(); });
  return message.find(expected) != std::string::npos ? 0 : 1;
}
TEST(Cpu, NeverFallsBack) {
  if (name_of(CpuTarget::scalar) == "neon") GTEST_SKIP() << "an emulated program cannot start itself again";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::exit(exit_code_with("avx1024", "ATTUNE_CPU: scalar, avx2, avx512 or avx512_bf16, got \"avx1024\"")),
              testing::ExitedWithCode(0), "");
  if (!cpu_info().avx512) {
    EXPECT_EXIT(std::exit(exit_code_with("avx512", "an instruction set that this processor has, got \"avx512\"")),
                testing::ExitedWithCode(0), "");
  }
  if (!cpu_info().avx512_bf16) {
    EXPECT_EXIT(std::exit(exit_code_with("avx512_bf16", "an instruction set that this processor has, got")),
                testing::ExitedWithCode(0), "");
  }
}

TEST(Cpu, TakesWhatTheEnvironmentNames) {
  const char* text = std::getenv("ATTUNE_CPU");
  const CpuInfo& info = cpu_info();
  const std::string best = info.avx512 ? "avx512" : info.avx2 ? "avx2" : std::string(name_of(CpuTarget::scalar));
  const bool bf16 = text && std::string(text) == "avx512_bf16", named = text && *text;
  EXPECT_EQ(name_of(cpu_target()), bf16 ? "avx512" : named ? std::string(text) : best);
  EXPECT_EQ(cpu_uses_bf16(), bf16 || (!named && info.avx512_bf16));
  EXPECT_EQ(cpu_uses_vnni(), (bf16 || !named) && info.avx512_vnni);
  EXPECT_GE(info.cores, 1);
  EXPECT_GT(info.l1d_bytes, 0);
  EXPECT_GT(info.l2_bytes, info.l1d_bytes);
}

}  // namespace
}  // namespace attune

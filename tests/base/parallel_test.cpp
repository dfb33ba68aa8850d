// The pool: every task once, equal bits for any number of threads, the first exception in task order, nesting.
#include "attune/base/parallel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune {
namespace {

/// Runs with a number of threads and puts the old one back.
class Threads {
 public:
  explicit Threads(int n) : before_(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before_); }

 private:
  int before_;
};

TEST(Parallel, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const Threads scope(threads);
    EXPECT_EQ(num_threads(), threads);
    for (const int tasks : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> count(std::size_t(tasks) + 1);
      parallel_for(tasks, [&](std::int64_t t) { ++count[std::size_t(t)]; });
      for (int t = 0; t < tasks; ++t) EXPECT_EQ(count[std::size_t(t)], 1);
      EXPECT_EQ(count[std::size_t(tasks)], 0);
    }
  }
}

TEST(Parallel, RangesCoverEverythingOnce) {
  const Threads scope(3);
  for (const std::int64_t n : {0, 1, 99, 100, 101}) {
    std::vector<int> count(std::size_t(n), 0);
    parallel_ranges(n, 10, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_EQ(begin % 10, 0);
      for (std::int64_t i = begin; i < end; ++i) ++count[std::size_t(i)];
    });
    for (const int c : count) EXPECT_EQ(c, 1);
  }
}

/// A sum cut into pieces by the problem, the pieces added in order.
float piecewise_sum(const std::vector<float>& x) {
  constexpr std::int64_t kPiece = 1000;
  const std::int64_t n = std::int64_t(x.size());
  std::vector<float> parts(std::size_t((n + kPiece - 1) / kPiece));
  parallel_ranges(n, kPiece, [&](std::int64_t begin, std::int64_t end) {
    float sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += x[std::size_t(i)];
    parts[std::size_t(begin / kPiece)] = sum;
  });
  float total = 0;
  for (const float p : parts) total += p;
  return total;
}
TEST(Parallel, EqualBitsForAnyNumberOfThreads) {
  Generator g(2);
  std::vector<float> x(100003);
  for (float& v : x) v = float(g.normal());
  const Threads scope(1);
  const float one = piecewise_sum(x);
  for (const int threads : {2, 3, 8}) {
    set_num_threads(threads);
    for (int again = 0; again < 20; ++again) ASSERT_EQ(piecewise_sum(x), one);
  }
}

TEST(Parallel, RethrowsTheFirstExceptionInTaskOrderAfterAllTasksRan) {
  for (const int threads : {1, 4}) {
    const Threads scope(threads);
    for (int again = 0; again < 50; ++again) {
      std::atomic<int> ran{0};
      try {
        parallel_for(100, [&](std::int64_t t) {
          ++ran;
          if (t % 30 == 29) throw std::runtime_error(std::to_string(t));
        });
        FAIL() << "nothing was thrown";
      } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "29");
      }
      EXPECT_EQ(ran, 100);
    }
    // And the pool still works.
    std::atomic<int> after{0};
    parallel_for(10, [&](std::int64_t) { ++after; });
    EXPECT_EQ(after, 10);
  }
}

TEST(Parallel, NestedCallsRunInOrderOnTheirOwnThread) {
  const Threads scope(4);
  std::atomic<int> wrong{0};
  parallel_for(8, [&](std::int64_t) {
    const auto me = std::this_thread::get_id();
    std::int64_t next = 0;
    parallel_for(20, [&](std::int64_t t) {
      if (t != next++ || std::this_thread::get_id() != me) ++wrong;
      parallel_for(2, [&](std::int64_t) {
        if (std::this_thread::get_id() != me) ++wrong;
      });
    });
    if (next != 20) ++wrong;
    if (num_threads() != 1) ++wrong;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Parallel, SeveralCallersAtOnce) {
  const Threads scope(2);
  std::atomic<int> count{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int n = 0; n < 50; ++n) parallel_for(10, [&](std::int64_t) { ++count; });
    });
  }
  for (auto& c : callers) c.join();
  EXPECT_EQ(count, 3 * 50 * 10);
}

TEST(Parallel, SaysWhatIsWrong) {
  EXPECT_THROW(set_num_threads(0), Error);
  const Threads scope(2);
  EXPECT_THROW(parallel_for(4, [](std::int64_t) { set_num_threads(3); }), Error);
  EXPECT_EQ(num_threads(), 2);
}

}  // namespace
}  // namespace attune

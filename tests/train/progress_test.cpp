// Progress line, event log, clock and signals.
#include "attune/train/progress.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <sstream>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/clock.hpp"
#include "attune/train/event_log.hpp"
#include "attune/train/signals.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

ProgressState example() {
  return {.step = 1840,
          .steps = 4400,
          .loss = 3.1234,
          .learning_rate = 1.9e-3,
          .tokens_per_second = 31'234,
          .max_logit = 14.2,
          .entropy = 0.62,
          .seconds_left = 151};
}

TEST(Progress, Text) {
  EXPECT_EQ(progress_text(example()),
            "step 1840/4400  41 %  loss 3.12  lr 1.9e-3  31.2k tok/s  logit 14  entropy .62  eta 2:31");
  EXPECT_EQ(progress_text({.step = 1,
                           .steps = 3,
                           .loss = 12,
                           .learning_rate = 1,
                           .tokens_per_second = 812,
                           .max_logit = -0.25,
                           .entropy = 1,
                           .seconds_left = 3725}),
            "step 1/3  33 %  loss 12.00  lr 1.0  812 tok/s  logit -0.2  entropy 1.00  eta 1:02:05");
  EXPECT_EQ(progress_text({.loss = std::nan(""), .tokens_per_second = 1.25e6, .seconds_left = std::nan("")}),
            "step 0/0  0 %  loss nan  lr 0.0  1.25M tok/s  eta ?");
}

TEST(Progress, RewritesItsLineOnATerminal) {
  std::ostringstream out;
  double now = 100;
  {
    Progress progress(out, {.terminal = true, .columns = 20, .now = [&] { return now; }});
    progress.show(example());
    progress.show(example());  // too soon
    now += 0.05;
    EXPECT_FALSE(progress.due());
    now += 0.06;
    progress.note("hello");
    progress.show(example());
  }
  const std::string line = progress_text(example()).substr(0, 19);
  EXPECT_EQ(out.str(), "\r" + line + "\x1b[K" + "\r\x1b[Khello\n" + "\r" + line + "\x1b[K\n");
}

TEST(Progress, PlainLinesInAPipe) {
  std::ostringstream out;
  double now = 0;
  Progress progress(out, {.now = [&] { return now; }});
  for (int i = 0; i < 100; ++i, now += 0.1) progress.show(example());
  progress.finish(example());
  const std::string line = progress_text(example()) + "\n";
  EXPECT_EQ(out.str(), line + line + line);  // at 0 s, 5 s and the end
  EXPECT_EQ(out.str().find('\r'), std::string::npos);
}

class Log : public ::testing::Test {
 protected:
  const attune::testing::TemporaryFolder folder_;
  const fs::path file_ = folder_ / "log.jsonl";
};

TEST_F(Log, OneObjectALine) {
  EventLog log = EventLog::create(file_);
  log.write({{"event", "step"}, {"step", 3}, {"loss", 0.1}, {"fine", true}, {"text", "a \"b\"\n"}});
  log.write({{"loss", std::nan("")}, {"high", HUGE_VAL}, {"count", std::uint32_t(7)}});
  EXPECT_EQ(io::read_file(file_),
            "{\"event\":\"step\",\"step\":3,\"loss\":0.1,\"fine\":true,\"text\":\"a \\\"b\\\"\\n\"}\n"
            "{\"loss\":\"nan\",\"high\":\"inf\",\"count\":7}\n");
}

TEST_F(Log, ResumeDropsWhatComesAgain) {
  {
    EventLog log = EventLog::resume(file_, 0);
    for (int step = 1; step <= 5; ++step) log.write({{"event", "step"}, {"step", step}});
    log.write({{"event", "stopped"}});
  }
  io::write_file(file_, io::read_file(file_) + "{\"event\":\"st");
  EventLog log = EventLog::resume(file_, 3);
  log.write({{"step", 4}});
  EXPECT_EQ(io::read_file(file_),
            "{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"step\",\"step\":3}\n"
            "{\"event\":\"stopped\"}\n{\"step\":4}\n");
}

TEST_F(Log, ResumeAtAPlaceKeepsLinesWhateverTheirSteps) {
  std::int64_t place = 0;
  {
    EventLog log = EventLog::create(file_);
    for (const int step : {1, 2, 3, 1}) log.write({{"step", step}});  // it went back after the third
    place = log.size();
    EXPECT_EQ(place, std::int64_t(fs::file_size(file_)));
    log.write({{"step", 2}});
  }
  const std::string kept = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":1}\n";
  {
    EventLog log = EventLog::resume_at(file_, place);
    EXPECT_EQ(io::read_file(file_), kept);
    EXPECT_EQ(log.size(), place);
    log.write({{"step", 2}});
    EXPECT_EQ(io::read_file(file_), kept + "{\"step\":2}\n");
  }
  // A place within a line, or behind the end of a file that lost its last bytes: whole lines stay.
  EventLog::resume_at(file_, place - 1);
  EXPECT_EQ(io::read_file(file_), kept.substr(0, kept.size() - 11));
  io::write_file(file_, kept + "{\"st");
  EventLog::resume_at(file_, 1000);
  EXPECT_EQ(io::read_file(file_), kept);
  EXPECT_EQ(EventLog::resume_at(folder_ / "none.jsonl", 10).size(), 0);
}

TEST_F(Log, ADiskThatTakesNoMoreIsAnError) {
  EXPECT_THROW(EventLog::create(folder_.path() / "none" / "log.jsonl"), Error);
  EventLog log = EventLog::create(file_);
  log.write({{"step", 1}});
  // A limit on the size of files stands for a full disk; its signal is what a full disk does not send.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{16, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(log.write({{"step", 2}}), Error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  // The half line is dropped on the next start.
  EventLog::resume(file_, 1);
  EXPECT_EQ(io::read_file(file_), "{\"step\":1}\n");
}

TEST(Clock, MinutesBecomeSteps) {
  double now = 0;
  int calls = 0;
  // 1,024 tokens in 1/16 s, but the first steps are slow and one in the middle is disturbed.
  const auto step = [&] {
    now += calls < 5 ? 1.0 : calls == 12 ? 9.0 : 0.0625;
    ++calls;
    return std::int64_t(1024);
  };
  const auto clock = [&] { return now; };
  EXPECT_EQ(steps_for_minutes(5, step, 0, 1, clock).steps, 4800);
  EXPECT_EQ(calls, kDiscardedSteps);
  calls = 0;
  const StepBudget budget = steps_for_minutes(5, step, 2048, 0.5, clock);
  EXPECT_EQ(budget.steps, 1200);
  EXPECT_NEAR(budget.seconds_a_step, 0.125, 1e-12);
  EXPECT_EQ(steps_for_minutes(1e-9, step, 0, 1, clock).steps, 1);
  EXPECT_THROW(steps_for_minutes(0, step), Error);
  EXPECT_THROW(steps_for_minutes(std::nan(""), step), Error);
  EXPECT_THROW(steps_for_minutes(1, [] { return std::int64_t(0); }), Error);
}

TEST(Signals, CtrlCIsAQuestion) {
  {
    const StopOnSignal stop;
    EXPECT_FALSE(stop.requested());
    std::raise(SIGTERM);
    EXPECT_TRUE(stop.requested());
    EXPECT_EQ(stop.signal(), SIGTERM);
    EXPECT_THROW(StopOnSignal(), Error);
  }
  const StopOnSignal again;
  EXPECT_FALSE(again.requested());
  std::raise(SIGINT);
  EXPECT_EQ(again.signal(), SIGINT);
}

}  // namespace
}  // namespace attune::train

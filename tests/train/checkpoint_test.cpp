// Checkpoints: everything comes back bit for bit; a kill at any moment leaves a loadable one; damage is named.
#include "attune/train/checkpoint.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/nn/linear.hpp"
#include "attune/optim/all.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

using attune::testing::TemporaryFolder;

/// A checkpoint whose every number depends on `step`.
Checkpoint make(std::int64_t step, std::int64_t size = 5) {
  Checkpoint c;
  c.step = step;
  c.weights = {{"z.weight", Tensor::full({size, 3}, double(step) + 0.1)}, {"a.bias", Tensor::full({3}, -double(step))}};
  c.optimizer = {
      "adamw",
      step,
      2,
      {0, 16},
      {{"second_moment", Tensor::full({32}, 1.0 / double(step + 1))}, {"first_moment", Tensor::full({32}, 3.0)}}};
  c.data = {3, step};
  Generator g(0xFFFFFFFFFFFFFFFFull, 7);
  g.set_position(std::uint64_t(step) * 1000003);
  c.generators = {{"dropout", g}};
  c.schedule = optim::warmup_linear({.warmup = 3, .total = 50}).json();
  c.numerics = numerics_of_this_machine();
  c.numbers = {{"tokens", 0.1 + 0.2}, {"loss", std::nan("")}, {"best", -std::numeric_limits<double>::infinity()}};
  return c;
}

void expect_equal(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.data, b.data);
  EXPECT_EQ(a.generators, b.generators);
  EXPECT_EQ(a.schedule, b.schedule);
  EXPECT_EQ(a.numerics, b.numerics);
  ASSERT_EQ(a.numbers.size(), b.numbers.size());
  for (const auto& [name, x] : a.numbers) {
    const double y = b.numbers.at(name);
    EXPECT_TRUE(x == y || (std::isnan(x) && std::isnan(y))) << name;
  }
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i) {
    EXPECT_EQ(a.weights[i].name, b.weights[i].name);
    EXPECT_EQ(a.weights[i].tensor.shape(), b.weights[i].tensor.shape());
    EXPECT_EQ(a.weights[i].tensor.to_vector(), b.weights[i].tensor.to_vector());
  }
  EXPECT_EQ(a.optimizer.kind, b.optimizer.kind);
  EXPECT_EQ(a.optimizer.step, b.optimizer.step);
  EXPECT_EQ(a.optimizer.skipped, b.optimizer.skipped);
  EXPECT_EQ(a.optimizer.offsets, b.optimizer.offsets);
  ASSERT_EQ(a.optimizer.arrays.size(), b.optimizer.arrays.size());
  for (std::size_t i = 0; i < a.optimizer.arrays.size(); ++i) {
    EXPECT_EQ(a.optimizer.arrays[i].first, b.optimizer.arrays[i].first);
    EXPECT_EQ(a.optimizer.arrays[i].second.to_vector(), b.optimizer.arrays[i].second.to_vector());
  }
}

std::string message_of_load(const fs::path& folder) {
  try {
    load_checkpoint(folder);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::size_t files_in(const fs::path& folder) {
  return std::size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Without the care of io::write_file, which waits for the disk.
void overwrite(const fs::path& file, const std::string& content) { std::ofstream(file, std::ios::binary) << content; }

TEST(Checkpoint, ComesBackInFull) {
  const TemporaryFolder folder;
  EXPECT_FALSE(has_checkpoint(folder.path() / "c"));
  const Checkpoint c = make(17);
  save_checkpoint(folder.path() / "c", c);
  EXPECT_TRUE(has_checkpoint(folder.path() / "c"));
  expect_equal(load_checkpoint(folder.path() / "c"), c);
  EXPECT_EQ(load_weights(folder.path() / "c")[0].name, "z.weight");
}

TEST(Checkpoint, TheNewOneReplacesTheOld) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {1, 2, 2, 2, 9}) {
    save_checkpoint(folder.path(), make(step, step + 1));
    expect_equal(load_checkpoint(folder.path()), make(step, step + 1));
    EXPECT_EQ(files_in(folder.path()), 3u);
  }
}

TEST(Checkpoint, NoArraysAtAll) {
  const TemporaryFolder folder;
  Checkpoint c = make(1);
  c.optimizer = {"sgd", 1, 0, {0}, {}};
  save_checkpoint(folder.path(), c);
  expect_equal(load_checkpoint(folder.path()), c);
}

TEST(Checkpoint, DamageIsNamed) {
  const TemporaryFolder folder;
  EXPECT_NE(message_of_load(folder.path()).find("there is none"), std::string::npos);
  for (const std::string name : {"weights-4.safetensors", "optimizer-4.safetensors", "state.json"}) {
    const fs::path file = folder.path() / name;
    save_checkpoint(folder.path(), make(3));
    save_checkpoint(folder.path(), make(4));
    const std::string content = io::read_file(file);
    for (const std::size_t cut : {std::size_t(0), content.size() / 2, content.size() - 1}) {
      if (name == "state.json" && cut == content.size() - 1) continue;  // the line break alone
      overwrite(file, content.substr(0, cut));
      EXPECT_NE(message_of_load(folder.path()).find(file.string()), std::string::npos) << name << " cut to " << cut;
    }
    // Every tenth byte, one at a time, with its lowest bit turned.
    for (std::size_t at = 0; at < content.size(); at += 10) {
      std::string altered = content;
      altered[at] = char(altered[at] ^ 1);
      overwrite(file, altered);
      // White space in state.json carries nothing.
      if (name == "state.json" && (content[at] == ' ' || content[at] == '\n')) continue;
      EXPECT_NE(message_of_load(folder.path()).find(file.string()), std::string::npos) << name << " at " << at;
    }
    fs::remove(file);
    EXPECT_NE(message_of_load(folder.path()), "") << name;
    for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove(entry.path());
  }
}

TEST(Checkpoint, AFailedSaveLeavesTheOldOne) {
  const TemporaryFolder folder;
  save_checkpoint(folder.path(), make(1));
  // A folder where the new state has to be written beside the old one: creating that file fails, for root as well.
  fs::create_directory(folder.path() / "state.json.tmp");
  EXPECT_THROW(save_checkpoint(folder.path(), make(2)), Error);
  expect_equal(load_checkpoint(folder.path()), make(1));
  EXPECT_FALSE(fs::exists(folder.path() / "weights-2.safetensors"));
  fs::remove(folder.path() / "state.json.tmp");
  save_checkpoint(folder.path(), make(2));
  expect_equal(load_checkpoint(folder.path()), make(2));
  io::write_file(folder.path() / "file", "");
  EXPECT_THROW(save_checkpoint(folder.path() / "file" / "c", make(1)), Error);
}

TEST(Checkpoint, AKillAtAnyMomentLeavesALoadableOne) {
  const TemporaryFolder folder;
  save_checkpoint(folder.path(), make(0, 2000));
  std::int64_t last = 0;
  // Ten kills, and more on a machine that is too slow to write anything in between.
  for (int kill = 0; kill < 10 || (last == 0 && kill < 60); ++kill) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Writes one after the other until the kill.
      try {
        for (std::int64_t step = last + 1;; ++step) save_checkpoint(folder.path(), make(step, 2000));
      } catch (...) {
        _exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(5000 + 2777 * kill));
    ::kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    const Checkpoint c = load_checkpoint(folder.path());
    EXPECT_GE(c.step, last);
    expect_equal(c, make(c.step, 2000));
    last = c.step;
  }
  EXPECT_GT(last, 0);
}

TEST(Checkpoint, RestoresWeightsOrChangesNothing) {
  set_seed(1);
  nn::Linear a({.in = 4, .out = 3}), b({.in = 4, .out = 3});
  b.weight.fill(7);
  std::vector<nn::NamedTensor> weights = a.named_parameters();
  for (nn::NamedTensor& w : weights) w.tensor = w.tensor.clone();
  restore_weights(weights, b);
  EXPECT_EQ(b.weight.to_vector(), a.weight.to_vector());
  b.weight.fill(7);
  const auto refused = [&](std::vector<nn::NamedTensor> bad) {
    EXPECT_THROW(restore_weights(bad, b), Error);
    for (const double x : b.weight.to_vector()) EXPECT_EQ(x, 7);
  };
  refused({weights[0]});
  refused({weights[0], weights[1], {"more", weights[0].tensor}});
  refused({weights[0], {weights[1].name, Tensor::zeros({4})}});
  refused({{weights[0].name, weights[0].tensor.to(DType::float64)}, weights[1]});
}

TEST(Checkpoint, AnOptimizerResumesBitForBit) {
  const TemporaryFolder folder;
  // One weight matrix chasing a target; the generator stands for everything random in a step.
  const auto run = [&](std::int64_t from, std::int64_t to, bool resume) {
    set_seed(1);
    nn::Linear model({.in = 6, .out = 5});
    optim::AdamW adamw(model.parameters(),
                       {.learning_rate = 0.05, .schedule = optim::warmup_linear({.warmup = 4, .total = 20})});
    Generator generator(9, 1);
    if (resume) {
      const Checkpoint c = load_checkpoint(folder.path());
      EXPECT_EQ(c.step, from);
      restore_weights(c.weights, model);
      adamw.load_state(c.optimizer);
      generator = c.generators.at("dropout").generator();
    }
    for (std::int64_t t = from; t < to; ++t) {
      for (Tensor p : model.parameters()) p.grad().copy_from(Tensor::randn(p.shape(), generator));
      adamw.advance();
    }
    Checkpoint c;
    c.step = adamw.step();
    c.weights = model.named_parameters();
    c.optimizer = adamw.state();
    c.generators = {{"dropout", generator}};
    save_checkpoint(folder.path(), c);
    return load_checkpoint(folder.path());
  };
  const Checkpoint whole = run(0, 20, false);
  for (const std::int64_t k : {0, 1, 3, 4, 13}) {
    run(0, k, false);
    expect_equal(run(k, 20, true), whole);
  }
}

}  // namespace
}  // namespace attune::train

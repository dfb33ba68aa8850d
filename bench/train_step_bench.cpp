// Whole training steps: forward, loss, backward, clipping, AdamW. Every model takes a step in turn, so that a
// disturbance spreads over all of them; medians. One thread is timed by its processor time, so that other programs on
// the machine count less; several by the clock on the wall.
//
//   train_step_bench [--models SMLT] [--threads 1] [--steps 9] [--json FILE]
//
// S, M, L are GPTs (pre-norm, GELU, learned positions, tied output, biases): 4 layers x 128, 16 x 128 tokens, 96
// pieces; 6 x 384, 8 x 256 tokens, 96 pieces; the same with 8,192 pieces. T is the translation demo's model: 2 + 2
// layers, width 128, 2,000 pieces, 1,024 source and target tokens each, dropout and label smoothing 0.1. GFLOP/s counts
// 6 per weight and token, and half of the pairs of a causal attention. Memory is what the process has gained at its
// peak.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/autograd/memory.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/models/gpt.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/optim/adam.hpp"
#include "ceilings.hpp"

namespace {
using namespace attune;

struct Setup {
  std::string models = "SMLT", json;
  int threads = 1, steps = 9;
};

Ids random_tokens(Generator& generator, const Shape& shape, std::int32_t first, std::int32_t end) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < shape.size(); ++i) {
    ids.push_back(first + std::int32_t(generator.below(std::uint64_t(end - first))));
  }
  return Ids(std::move(ids), shape);
}

/// A model, its optimizer and one batch.
struct Task {
  char name = 0;
  double tokens = 0, flops = 0;  // a step
  std::shared_ptr<nn::Module> model;
  std::unique_ptr<optim::Optimizer> optimizer;
  std::function<Tensor()> loss;
  std::vector<double> forward, backward, update, all;  // seconds
};

Task gpt_task(char name, std::int64_t layers, std::int64_t width, std::int64_t heads, const Shape& batch,
              std::int64_t vocab_size) {
  Task task;
  task.name = name;
  auto gpt = std::make_shared<models::Gpt>(models::GptOptions{
      .vocab_size = vocab_size, .num_layers = layers, .model_dim = width, .num_heads = heads, .context = batch[1]});
  task.optimizer = std::make_unique<optim::AdamW>(
      gpt->parameters(), optim::AdamWOptions{.learning_rate = 3e-4, .weight_decay = 0.01, .clip_norm = 1});
  Generator generator(2);
  const Ids tokens = random_tokens(generator, batch, 0, std::int32_t(vocab_size));
  const Ids targets = random_tokens(generator, batch, 0, std::int32_t(vocab_size));
  task.loss = [gpt, tokens, targets] { return gpt->loss(tokens, targets); };
  task.model = gpt;
  task.tokens = double(batch.size());
  const double weights = double(gpt->num_parameters() - batch[1] * width);
  task.flops = task.tokens * (6 * weights + 6 * double(layers * width * batch[1]));
  return task;
}

Task translation_task() {
  Task task;
  task.name = 'T';
  auto model = std::make_shared<models::Seq2SeqTransformer>(models::Seq2SeqOptions{.source_vocab_size = 2000});
  task.optimizer = std::make_unique<optim::AdamW>(
      model->parameters(), optim::AdamWOptions{.learning_rate = 1e-3, .betas = {0.9, 0.98}, .clip_norm = 1});
  Generator generator(2);
  const Shape batch{32, 32};
  const Ids source = random_tokens(generator, batch, 4, 2000), target = random_tokens(generator, batch, 4, 2000),
            labels = random_tokens(generator, batch, 4, 2000);
  task.loss = [=] {
    return cross_entropy((*model)(source, target), labels, {.label_smoothing = 0.1, .ignore_index = 0});
  };
  task.model = model;
  task.tokens = 2 * double(batch.size());
  return task;
}

void take_step(Task& task, int threads, bool counts) {
  const auto clock = threads == 1 ? bench::thread_seconds : bench::now;
  const double t0 = clock();
  const Tensor loss = task.loss();
  const double t1 = clock();
  loss.backward();
  const double t2 = clock();
  if (!task.optimizer->advance()) fail("train_step_bench", "finite gradients", "one is not");
  task.optimizer->zero_grad();
  const double t3 = clock();
  if (!counts) return;
  task.forward.push_back(t1 - t0);
  task.backward.push_back(t2 - t1);
  task.update.push_back(t3 - t2);
  task.all.push_back(t3 - t0);
}

/// The most memory this process has had, bytes.
double peak_resident() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return double(use.ru_maxrss) * 1024;
}

Setup read(int argc, char** argv) {
  Setup setup;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (++i == argc) fail("train_step_bench", "a value after " + word, "got none");
      return std::string(argv[i]);
    };
    if (word == "--models")
      setup.models = value();
    else if (word == "--threads")
      setup.threads = std::max(1, std::atoi(value().c_str()));
    else if (word == "--steps")
      setup.steps = std::max(1, std::atoi(value().c_str()));
    else if (word == "--json")
      setup.json = value();
    else
      fail("train_step_bench", "--models, --threads, --steps or --json", "got " + word);
  }
  return setup;
}

void run(const Setup& setup) {
  const double resident = peak_resident();
  set_num_threads(setup.threads);
  set_seed(1);
  std::vector<Task> tasks;
  for (const char name : setup.models) {
    switch (name) {
      case 'S':
        tasks.push_back(gpt_task('S', 4, 128, 4, {16, 128}, 96));
        break;
      case 'M':
        tasks.push_back(gpt_task('M', 6, 384, 6, {8, 256}, 96));
        break;
      case 'L':
        tasks.push_back(gpt_task('L', 6, 384, 6, {8, 256}, 8192));
        break;
      case 'T':
        tasks.push_back(translation_task());
        break;
      default:
        fail("train_step_bench", "models of S, M, L and T", std::string("got ") + name);
    }
  }
  for (int step = -2; step < setup.steps; ++step) {  // two to warm up
    for (Task& task : tasks) take_step(task, setup.threads, step >= 0);
  }
  const double gained = peak_resident() - resident;
  std::printf("%s, %s, %d thread%s\n", cpu_info().model.c_str(), std::string(name_of(cpu_target())).c_str(),
              setup.threads, setup.threads == 1 ? "" : "s");
  std::printf("model  forward  backward  update    step (lowest)  ms   tokens/s   GFLOP/s\n");
  nlohmann::json rows = nlohmann::json::array();
  for (Task& task : tasks) {
    const double seconds = bench::median(task.all), lowest = *std::min_element(task.all.begin(), task.all.end());
    std::printf("%c    %9.2f %9.2f %7.2f %8.2f (%.2f) %14.0f %9.1f\n", task.name, bench::median(task.forward) * 1e3,
                bench::median(task.backward) * 1e3, bench::median(task.update) * 1e3, seconds * 1e3, lowest * 1e3,
                task.tokens / seconds, task.flops / seconds * 1e-9);
    rows.push_back({{"model", std::string(1, task.name)},
                    {"ms", seconds * 1e3},
                    {"ms_lowest", lowest * 1e3},
                    {"ms_forward", bench::median(task.forward) * 1e3},
                    {"ms_backward", bench::median(task.backward) * 1e3},
                    {"ms_update", bench::median(task.update) * 1e3},
                    {"tokens_per_second", task.tokens / seconds},
                    {"gflops", task.flops / seconds * 1e-9}});
  }
  const MemoryUse use = memory_use();
  std::printf("memory: %.1f MB more at the peak, %.1f MB of tensors\n", gained * 1e-6, double(use.peak) * 1e-6);
  if (!setup.json.empty()) {
    io::write_file(setup.json, nlohmann::json{{"cpu", cpu_info().model},
                                              {"target", name_of(cpu_target())},
                                              {"threads", setup.threads},
                                              {"bytes_gained", gained},
                                              {"rows", rows}}
                                   .dump(2));
  }
}
}  // namespace

int main(int argc, char** argv) {
  try {
    run(read(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

// One training step of the demo's model: 2 + 2 layers, width 128, 4 heads, feed-forward 512, 2,000 pieces, 1,024 source
// and target tokens each, dropout and label smoothing 0.1, AdamW. Median milliseconds of forward, backward and update,
// and source + target tokens a second; then the memory that a step holds. One thread is timed by its processor time, so
// that other programs on the machine count less; two threads by the clock on the wall.
#include <ctime>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "attune/autograd/memory.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/base/parallel.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/optim/adam.hpp"
#include "ceilings.hpp"

namespace {
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}
}  // namespace

int main(int argc, char** argv) {
  using namespace attune;
  const int steps = argc > 1 ? std::atoi(argv[1]) : 60;
  const std::int64_t batch_size = 32, length = 32;
  set_seed(1);
  models::Seq2SeqTransformer model({.source_vocab_size = 2000});
  optim::AdamW optimizer(model.parameters(), {.learning_rate = 1e-3, .betas = {0.9, 0.98}, .clip_norm = 1});
  Generator generator(2);
  const auto tokens = [&] {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < batch_size * length; ++i) ids.push_back(std::int32_t(4 + generator.below(1996)));
    return ids;
  };
  const auto median = [](std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + std::ptrdiff_t(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    double (*const now)() = threads == 1 ? thread_seconds : bench::now;
    std::vector<double> forward, backward, update, all;
    for (int step = 0; step < steps; ++step) {
      const Ids source(tokens(), {batch_size, length}), target(tokens(), {batch_size, length}), labels(tokens());
      const double t0 = now();
      const Tensor loss = cross_entropy(model(source, target), labels, {.label_smoothing = 0.1, .ignore_index = 0});
      const double t1 = now();
      loss.backward();
      const double t2 = now();
      optimizer.advance();
      optimizer.zero_grad();
      const double t3 = now();
      if (step < 5) continue;
      forward.push_back(t1 - t0);
      backward.push_back(t2 - t1);
      update.push_back(t3 - t2);
      all.push_back(t3 - t0);
    }
    std::printf("%d thread%s  forward %.2f ms  backward %.2f ms  update %.2f ms  step %.2f ms  %.1f k tokens/s\n",
                threads, threads > 1 ? "s" : " ", median(forward) * 1e3, median(backward) * 1e3, median(update) * 1e3,
                median(all) * 1e3, 2 * double(batch_size * length) / median(all) * 1e-3);
  }
  const MemoryUse use = memory_use();
  std::printf("peak %.1f MB of tensors, %lld blocks ever taken from the system\n", double(use.peak) * 1e-6,
              static_cast<long long>(use.system_requests));
}

// The pool: a region is one counter that threads draw tasks from; workers join it and leave it.
#include "attune/base/parallel.hpp"

#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "attune/base/error.hpp"

namespace attune {
namespace {

thread_local bool inside_region = false;

struct Region {
  detail::TaskRef task;
  std::int64_t tasks;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::int64_t first_failed = -1;
  std::exception_ptr failure;

  void run() {
    inside_region = true;
    for (;;) {
      const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= tasks) break;
      try {
        task.call(task.object, i);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (first_failed < 0 || i < first_failed) {
          first_failed = i;
          failure = std::current_exception();
        }
      }
    }
    inside_region = false;
  }
};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// The worker threads. A region is open while its caller hands out tasks; a worker may join as long as it is, and the
/// caller waits for those who did. One that the system has not given a processor yet is therefore never waited for:
/// on a busy machine a region costs no more than on one thread. Whoever waits spins a short while, since the next
/// region usually follows at once, and then sleeps, so that its processor is free for the thread it waits for.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    stop_.store(true, std::memory_order_relaxed);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    for (auto& w : workers_) w.join();
  }
  int threads() const { return int(workers_.size()) + 1; }

  void run(Region& region) {
    region_ = &region;
    state_.store(kOpen, std::memory_order_release);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    region.run();
    std::uint32_t inside = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (int spin = 0; inside != 0; ++spin) {
      if (spin < kSpins)
        pause();
      else
        state_.wait(inside, std::memory_order_acquire);
      inside = state_.load(std::memory_order_acquire);
    }
  }

 private:
  static constexpr int kSpins = 2000;  // some tens of microseconds: longer than between two operators of a model
  static constexpr std::uint32_t kOpen = 1u << 31;

  void work() {
    std::uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; call_.load(std::memory_order_acquire) == seen && spin < kSpins; ++spin) pause();
      call_.wait(seen, std::memory_order_acquire);  // returns at once if it differs already
      seen = call_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      std::uint32_t state = state_.load(std::memory_order_relaxed);
      while ((state & kOpen) != 0 && !state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
      }
      if ((state & kOpen) == 0) continue;  // came too late
      region_->run();
      if (state_.fetch_sub(1, std::memory_order_acq_rel) == 1) state_.notify_one();  // closed, and the last to leave
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<std::uint32_t> call_{0};   // rises with every region
  std::atomic<std::uint32_t> state_{0};  // kOpen, and how many workers are inside of the region
  Region* region_ = nullptr;             // written before it is opened
  std::atomic<bool> stop_{false};
};

int threads_at_start() {
  if (const char* text = std::getenv("ATTUNE_THREADS")) {
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    if (end == text || *end != 0 || n < 1 || n > 1024) {
      fail("ATTUNE_THREADS", "a number of threads from 1 to 1024", "got \"" + std::string(text) + "\"");
    }
    return int(n);
  }
  cpu_set_t set;  // the processors this process may use: less than the machine has in a container or under taskset
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, int(std::thread::hardware_concurrency()));
}

std::mutex pool_mutex;  // one region at a time; also guards the pool's replacement
std::unique_ptr<Pool>& pool() {
  static std::unique_ptr<Pool> p = std::make_unique<Pool>(threads_at_start());
  return p;
}

}  // namespace

int num_threads() {
  if (inside_region) return 1;
  std::lock_guard lock(pool_mutex);
  return pool()->threads();
}

void set_num_threads(int threads) {
  if (threads < 1 || threads > 1024) fail("set_num_threads", "1 to 1024 threads", "got " + std::to_string(threads));
  if (inside_region) fail("set_num_threads", "a call from outside of parallel_for", "called from a task");
  std::lock_guard lock(pool_mutex);
  if (pool()->threads() != threads) pool() = std::make_unique<Pool>(threads);
}

void detail::run_tasks(std::int64_t tasks, TaskRef task) {
  if (tasks <= 0) return;
  Region region{.task = task, .tasks = tasks};
  if (inside_region) {
    region.run();
    inside_region = true;
  } else {
    std::lock_guard lock(pool_mutex);
    if (pool()->threads() == 1)
      region.run();
    else
      pool()->run(region);
  }
  if (region.failure) std::rethrow_exception(region.failure);
}

}  // namespace attune

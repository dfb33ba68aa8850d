// The pool: workers spin a short while for the next region, then sleep. A region is one counter that threads draw from.
#include "attune/base/parallel.hpp"

#include <sched.h>

#include <atomic>
#include <condition_variable>
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

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
  }
  int threads() const { return int(workers_.size()) + 1; }

  void run(Region& region) {
    const std::int64_t helpers = std::int64_t(workers_.size());
    {
      std::lock_guard lock(mutex_);
      region_ = &region;
      busy_.store(helpers, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    region.run();
    for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < kSpins)
        pause();
      else
        std::this_thread::yield();
    }
  }

 private:
  static constexpr int kSpins =
      4000;  // some tens of microseconds: longer than the gap between two operators of a model

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; generation_.load(std::memory_order_acquire) == seen && spin < kSpins; ++spin) pause();
      Region* region;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
        seen = generation_.load(std::memory_order_relaxed);
        if (stop_) return;
        region = region_;
      }
      region->run();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<std::int64_t> busy_{0};
  Region* region_ = nullptr;
  bool stop_ = false;
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

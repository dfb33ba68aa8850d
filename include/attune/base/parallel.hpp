// One pool of threads. Work is cut by the problem and never by the number of threads, so results have equal bits for
// any thread count; a function that runs in parallel writes to places that no other task writes to.
#pragma once
#include <cstdint>
#include <type_traits>

namespace attune {

/// Threads that parallel_for uses, the calling one included. At first: ATTUNE_THREADS, else the processors of this
/// process.
int num_threads();
/// 1 or more. Throws Error otherwise. Not to be called from inside a parallel_for.
void set_num_threads(int threads);

namespace detail {
/// A reference to a callable; the pool needs no ownership and no allocation.
struct TaskRef {
  void* object;
  void (*call)(void* object, std::int64_t task);
};
void run_tasks(std::int64_t tasks, TaskRef task);
}  // namespace detail

/// Calls f(task) for task = 0 .. tasks-1, each exactly once, in any order, on the pool; returns when all are done.
/// Tasks are handed out in rising order. A nested call runs on its own thread, in order.
/// If tasks throw, all others still run, and the exception of the smallest task number is rethrown.
template <class F>
void parallel_for(std::int64_t tasks, F&& f) {
  if (tasks == 1) {
    f(std::int64_t(0));
    return;
  }
  using Object = std::remove_reference_t<F>;
  detail::run_tasks(tasks, {const_cast<void*>(static_cast<const void*>(&f)),
                            [](void* object, std::int64_t task) { (*static_cast<Object*>(object))(task); }});
}

/// Cuts 0 .. n-1 into ranges of `grain` (the last may be shorter) and calls f(begin, end) for each, as parallel_for
/// does.
template <class F>
void parallel_ranges(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= 0) return;
  parallel_for((n + grain - 1) / grain, [&](std::int64_t task) {
    const std::int64_t begin = task * grain;
    f(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace attune

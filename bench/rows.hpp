// One line of a benchmark: what is computed, how much work it is, what its rate is read against. Every program of this
// folder lists its lines as rows and leaves the measuring to runner.hpp, so all of them take the same options, print
// the same table and write the same JSON.
#pragma once
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "attune/base/parallel.hpp"
#include "ceilings.hpp"

namespace attune::bench {

/// What a row's rate is a share of: a multiply-add peak, the rate of reading memory, or nothing.
enum class Ceiling { none, fma_f32, fma_f64, fma_bf16, memory };

/// One call, again and again.
using Call = std::function<void()>;

struct Row {
  std::string shape;              // "A", "1x8x4096x64", ...
  std::vector<int> extents;       // the same in numbers, for peers: B, H, Hkv, Tq, Tk, D, or of a GPT training step:
                                  // layers, width, heads, batch, tokens, vocabulary
  std::string pass = "forward";   // forward, backward, decode, step
  std::string variant = "plain";  // plain, alibi, dropout, ...
  bool causal = false;            //
  std::string dtype = "float32";  // of inputs and outputs
  double flops = 0;               // operations of one call that count: 2 (D + Dv) a visible pair and head, ...
  double visited = 0;             // of a mask: the share of the pairs that tiles hold; 0: not said
  double bytes = 0;               // bytes of memory that one call has to read, if that is what bounds it
  Ceiling ceiling = Ceiling::fma_f32;
  std::function<Call()> prepare;  // makes the arrays and returns the call; the arrays live in it
  int most_threads = 1 << 20;     // rows that make no sense on more are left out there

  /// "A forward plain full float32": unique in a program.
  std::string name() const { return shape + " " + pass + " " + variant + (causal ? " causal " : " full ") + dtype; }
};

/// What one sample of a row found.
struct Sample {
  double seconds = 0;  // of one call
  double ceiling = 0;  // GFLOP/s or GB/s of all threads together, right before; 0 if there is none
  int calls = 0;
};

/// The value below which a share `at` of the numbers lies, between neighbours in proportion. 0 for none.
inline double quantile(std::vector<double> v, double at) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  const double place = at * double(v.size() - 1);
  const std::size_t i = std::size_t(place);
  return i + 1 < v.size() ? v[i] + (place - double(i)) * (v[i + 1] - v[i]) : v[i];
}
/// Distance of the quartiles as a share of the median.
inline double spread(const std::vector<double>& v) {
  const double middle = quantile(v, 0.5);
  return middle > 0 ? (quantile(v, 0.75) - quantile(v, 0.25)) / middle : 0;
}

/// The clock that samples are taken with. One thread: processor time, so that other programs on the machine count less.
/// Several: the clock on the wall, since waiting for each other is part of the cost.
inline double sample_clock(int threads) { return threads == 1 ? process_seconds() : now(); }

/// The ceiling of all threads together, now: GFLOP/s, or GB/s for memory.
inline double measure(Ceiling ceiling, int threads) {
  if (ceiling == Ceiling::none) return 0;
  if (ceiling == Ceiling::memory) return memory_read_once(threads);
  const Fma type = ceiling == Ceiling::fma_f64 ? Fma::f64 : ceiling == Ceiling::fma_bf16 ? Fma::bf16 : Fma::f32;
  std::vector<double> rate(std::size_t(threads), 0.0);
  parallel_for(threads, [&](std::int64_t t) { rate[std::size_t(t)] = fma_peak_once(type); });
  double sum = 0;
  for (double r : rate) sum += r;
  return sum;
}

/// Takes one sample: the ceiling, one call that brings code and arrays back into the caches, then calls for at least
/// `least_seconds`. A call that takes longer than 0.2 s is not repeated for the caches' sake: they are a trifle to it.
inline Sample sample(const Row& row, const Call& call, int threads, double least_seconds, double last_seconds = 0) {
  Sample result;
  result.ceiling = measure(row.ceiling, threads);
  if (last_seconds < 0.2) call();
  const double start = sample_clock(threads);
  double spent;
  do {
    call();
    ++result.calls;
    spent = sample_clock(threads) - start;
  } while (spent < least_seconds);
  result.seconds = spent / result.calls;
  return result;
}

/// Share of the ceiling that a sample reached; 0 where there is no ceiling.
inline double share(const Row& row, const Sample& s) {
  const double work = row.ceiling == Ceiling::memory ? row.bytes : row.flops;
  return s.ceiling > 0 ? work / s.seconds * 1e-9 / s.ceiling : 0;
}

}  // namespace attune::bench

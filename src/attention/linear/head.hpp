// One key head of a call: its chunks in memory, its state from chunk to chunk. Shared by forward and backward.
#pragma once
#include <cmath>

#include "attention/linear/piece.hpp"

namespace attune::engine {

/// A checked call for one scalar. `features` and the references in `call` point into this object and the caller's.
template <class T>
struct LinearPlan {
  LinearCall<T> call;
  Features<T> features;
  LinearPlan(const LinearAttendShape& shape, const LinearAttendInputs& in, const LinearAttendOptions& options);
  LinearPlan(const LinearPlan&) = delete;
  LinearPlan& operator=(const LinearPlan&) = delete;
};

/// Loads chunks and runs the recurrence over them.
template <class T>
class LinearHead {
 public:
  /// Takes its memory from the arena; counts alone if the arena has none.
  LinearHead(const LinearPlan<T>& plan, Arena& arena, bool backward);
  /// From here on of key head g of batch entry b.
  void enter(int b, int g) { batch_ = b, head_ = g; }

  /// The state before the first token, [F][W].
  void begin(T* state) const;
  /// Keys first .. first + n - 1 with values, gates and betas; no query reads.
  void load_writes(int first, int n);
  /// Queries of all heads of the group, features taken.
  void load_reads(int first, int n);
  Chunk<T>& chunk() { return chunk_; }
  Piece<T>& piece() { return piece_; }

  /// What the next walk or step back fetches meanwhile: keys and values of tokens first .. first + n - 1, and queries.
  /// n may be 0.
  void fetch_next(int first, int n, bool queries);
  /// Adds rows of head h of any array of the caller's; nothing if it has no memory.
  void fetch_rows(const ConstView& v, int h, int first, int n);

  /// The loaded tokens: state moves on, out [heads][chunk][W] is what the heads read.
  void walk(T* state, T* out);
  /// out = what the loaded queries read of a state that stays.
  void read(const T* state, T* out);
  /// Whether rows [heads][chunk][width] of the loaded tokens are finite.
  bool finite(const T* rows, int heads, int width) const;

  const T* raw(bool query, int h, int first, int n);  // [n][D], as the caller gave it
  int batch() const { return batch_; }
  int head() const { return head_; }

 private:
  const LinearPlan<T>& plan_;
  const LinearCall<T>& call_;
  Chunk<T> chunk_;
  T *raw_, *saved_;  // [chunk][D], [F][W]
  Piece<T> piece_;
  kernels::Upcoming ahead_;
  int batch_ = 0, head_ = 0;
};

}  // namespace attune::engine

// One key head on its way back: its chunks' gradients and that of the state between them. Private to the backward pass.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/linear/head.hpp"

namespace attune::engine {

/// Chunks up to which all states are kept.
inline constexpr std::int64_t kKeptStates = 1024;

template <class T>
class BackwardHead {
 public:
  BackwardHead(const LinearPlan<T>& plan, const LinearAttendUpstream& up, const LinearAttendGradients& to, Arena& arena)
      : call_(plan.call), up_(up), to_(to) {
    const std::int64_t c = call_.chunk, rows = call_.rows(), columns = call_.columns(), size = call_.state_size();
    const std::int64_t chunks = call_.options->causal ? (call_.shape.num_keys + c - 1) / c : 0;
    per_group_ = int(chunks <= kKeptStates ? std::max<std::int64_t>(1, chunks) : std::ceil(std::sqrt(double(chunks))));
    outer_ = arena.take<T>((chunks / per_group_ + 1) * size);
    inner_ = arena.take<T>((per_group_ + 1) * size);
    dstate_ = arena.take<T>(size);
    saved_ = arena.take<T>(size);
    turned_ = arena.take<T>(size);
    dout_ = arena.take<T>(call_.group * c * columns);
    given_ = arena.take<T>(c * call_.shape.value_dim);
    draw_ = arena.take<T>(c * call_.shape.head_dim);
    dots_ = arena.take<T>(c);
    gradients_.query = arena.take<T>(call_.group * c * rows);
    gradients_.key = arena.take<T>(c * rows);
    gradients_.value = arena.take<T>(c * columns);
    gradients_.decay = arena.take<T>(c * call_.gates);
    gradients_.beta = arena.take<T>(c);
  }

  /// dbeta [Tk]: where the gradient of beta is added instead if several heads share one; may be null.
  void run(LinearHead<T>& head, T* dbeta);

 private:
  int walk_group(LinearHead<T>& head, int group, T* states, bool each);
  void back_through_group(LinearHead<T>& head, int group, T* dbeta);
  void fetch_before(LinearHead<T>& head, int first, bool causal);
  void load_dout(const LinearHead<T>& head, int heads, int first, int n);
  void back_through_reads(LinearHead<T>& head, const T* state, int first, int n);
  void back_through_chunk(LinearHead<T>& head, const T* before, const T* after);
  bool finite(LinearHead<T>& head) const;
  void add_query(LinearHead<T>& head, int first, int n);
  void add_rest(LinearHead<T>& head, int first, int n, T* dbeta);

  const LinearCall<T>& call_;
  const LinearAttendUpstream& up_;
  const LinearAttendGradients& to_;
  int per_group_ = 1;                 // chunks
  T *outer_, *inner_;                 // states before groups [..][F][W]; within one [per_group + 1][F][W]
  T *dstate_, *saved_, *turned_;      // [F][W]; the same; [W][F]
  T *dout_, *given_, *draw_, *dots_;  // [group][chunk][W]; [chunk][Dv]; [chunk][D]; [chunk]
  ChunkGradients<T> gradients_;
  std::vector<T> starts_;  // states before the pieces of a chunk after the first
};

}  // namespace attune::engine

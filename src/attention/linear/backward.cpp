// linear_attend_backward over key heads. Each first walks forward for the state before every chunk, then back through
// the chunks with the gradient of the state, making each chunk's own products again.
//
// The states of very many chunks are not all kept: those before groups of chunks are, as many groups as a group has
// chunks, and those within a group are made when its turn comes. Memory then grows as the root of the length: 2 instead
// of 67 MB at 131,072 tokens of width 64, in 0.88 (elu + 1) to 1.02 (gated delta) of the time, since 67 MB are fresh
// pages. At 32,768 tokens keeping all is the faster, by 4 to 15 %.
#include "attention/linear/backward_head.hpp"
#include "attention/linear/passes.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {

/// Walks the chunks of a group on from states[0]; returns how many they are. each: a state after every one, in order;
/// else states[0] itself moves on.
template <class T>
int BackwardHead<T>::walk_group(LinearHead<T>& head, int group, T* states, bool each) {
  const int keys = call_.keys(head.batch()), begin = group * per_group_ * call_.chunk;
  const std::int64_t size = call_.state_size();
  int chunks = 0;
  for (int first = begin; first < keys && chunks < per_group_; first += call_.chunk, ++chunks) {
    const int n = std::min(call_.chunk, keys - first);
    head.load_writes(first, n);
    head.fetch_next(first + n, std::min(call_.chunk, keys - first - n), false);
    if (each) {
      std::copy_n(states, size, states + size);
      states += size;
    }
    head.walk(states, nullptr);
  }
  return chunks;
}

/// Back through the chunks of a group whose states stand in inner_ (of one chunk and its state after, if not causal).
template <class T>
void BackwardHead<T>::back_through_group(LinearHead<T>& head, int group, T* dbeta) {
  const int keys = call_.keys(head.batch());
  const bool causal = call_.options->causal;
  const int begin = group * per_group_, all = (keys + call_.chunk - 1) / call_.chunk;
  for (int chunk = std::min(begin + per_group_, all) - 1; chunk >= begin; --chunk) {
    const int first = chunk * call_.chunk, n = std::min(call_.chunk, keys - first);
    head.load_writes(first, n);
    if (causal && up_.dout) {
      head.load_reads(first, n);
      load_dout(head, call_.group, first, n);
    }
    fetch_before(head, first, causal);
    // Without causality no product needs a state.
    const T* before = causal ? inner_ + (chunk - begin) * call_.state_size() : inner_;
    back_through_chunk(head, before, causal ? before + call_.state_size() : inner_);
    if (head.chunk().heads > 0) add_query(head, first, n);
    add_rest(head, first, n, dbeta);
  }
}

template <class T>
void BackwardHead<T>::run(LinearHead<T>& head, T* dbeta) {
  const LinearAttendShape& s = call_.shape;
  const std::int64_t size = call_.state_size();
  const std::int64_t at = (std::int64_t(head.batch()) * s.num_kv_heads + head.head()) * size;
  const int keys = call_.keys(head.batch());
  const bool causal = call_.options->causal;
  const int span = per_group_ * call_.chunk, last = keys > 0 ? (keys - 1) / span : 0;  // groups are 0 .. last
  // The last group's states are all made here, so a sequence of one group is walked once.
  T* state = causal ? outer_ : inner_;
  head.begin(state);
  for (int group = 0; group < (causal ? last : last + 1); ++group) {
    if (causal) {
      std::copy_n(state, size, state + size);
      state += size;
    }
    walk_group(head, group, state, false);
  }
  if (causal) {
    std::copy_n(state, size, inner_);
    state = inner_ + walk_group(head, last, inner_, true) * size;
  }
  if (up_.dstate)
    std::copy_n(static_cast<const T*>(up_.dstate.data) + at, size, dstate_);
  else
    std::fill_n(dstate_, size, T(0));
  for (int first = causal ? keys : 0; up_.dout && first < s.num_queries; first += call_.chunk) {
    back_through_reads(head, state, first, std::min(call_.chunk, s.num_queries - first));
  }
  for (int group = last; group >= 0; --group) {
    if (causal && group < last) {
      std::copy_n(outer_ + group * size, size, inner_);
      walk_group(head, group, inner_, true);
    }
    back_through_group(head, group, dbeta);
  }
  if (to_.state) {
    T* to = static_cast<T*>(to_.state.data) + at;
    for (std::int64_t i = 0; i < size; ++i) to[i] += dstate_[i];
  }
}

template <class T>
void linear_backward(const LinearAttendShape& s, const LinearAttendInputs& in, const LinearAttendUpstream& up,
                     const LinearAttendGradients& to, const LinearAttendOptions& options) {
  const LinearPlan<T> plan(s, in, options);
  Arena count;
  { const BackwardHead<T> backward(plan, up, to, count); }
  { const LinearHead<T> head(plan, count, true); }
  // One beta for all heads: each writes its own part, which are then added in the order of heads.
  const bool shared = to.beta && in.beta.shape[1] == 1 && s.num_kv_heads > 1;
  const std::int64_t tasks = std::int64_t(s.batch_size) * s.num_kv_heads;
  std::vector<T> dbeta(shared ? std::size_t(tasks * s.num_keys) : 0, T(0));
  parallel_for(tasks, [&](std::int64_t task) {
    const kernels::FlushDenormals here;
    Workspace workspace(count.used());
    Arena arena(workspace.begin());
    BackwardHead<T> backward(plan, up, to, arena);
    LinearHead<T> head(plan, arena, true);
    head.enter(int(task / s.num_kv_heads), int(task % s.num_kv_heads));
    backward.run(head, shared ? dbeta.data() + task * s.num_keys : nullptr);
  });
  for (std::int64_t task = 0; shared && task < tasks; ++task) {
    for (int t = 0; t < s.num_keys; ++t) {
      *static_cast<T*>(row_at(to.beta, task / s.num_kv_heads, 0, t)) += dbeta[std::size_t(task * s.num_keys + t)];
    }
  }
}

template void linear_backward<float>(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendUpstream&,
                                     const LinearAttendGradients&, const LinearAttendOptions&);
template void linear_backward<double>(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendUpstream&,
                                      const LinearAttendGradients&, const LinearAttendOptions&);

}  // namespace attune::engine

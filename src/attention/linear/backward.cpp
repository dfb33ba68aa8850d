// linear_attend_backward over key heads. Each first walks forward for the state before every chunk, then back through
// the chunks with the gradient of the state, making each chunk's own products again.
//
// The states of very many chunks are not all kept: those before groups of chunks are, as many groups as a group has
// chunks, and those within a group are made when its turn comes. Memory then grows as the root of the length: 2 instead
// of 67 MB at 131,072 tokens of width 64, in 0.88 (elu + 1) to 1.02 (gated delta) of the time, since 67 MB are fresh
// pages. At 32,768 tokens keeping all is the faster, by 4 to 15 %.
#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/linear/head.hpp"
#include "attention/linear/passes.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {
namespace {

/// Chunks up to which all states are kept.
constexpr std::int64_t kKeptStates = 1024;

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

/// Gradients of what queries read: out = scale read, or read_w / read_last, whose gradients are
/// dread_w = dout_w / read_last and dread_last = -(dout . out) / read_last.
template <class T>
void BackwardHead<T>::load_dout(const LinearHead<T>& head, int heads, int first, int n) {
  const int columns = call_.columns(), width = call_.shape.value_dim;
  for (int j = 0; j < heads; ++j) {
    const int h = head.head() * call_.group + j;
    T* rows = dout_ + std::ptrdiff_t(j) * call_.chunk * columns;
    if (!up_.dout) {
      std::fill(rows, rows + std::ptrdiff_t(n) * columns, T(0));
      continue;
    }
    load_rows(up_.dout, head.batch(), h, first, n, width, rows, columns);
    if (!call_.options->normalize) {
      for (int i = 0; i < n * columns; ++i) rows[i] *= call_.scale;
      continue;
    }
    load_rows(up_.out, head.batch(), h, first, n, width, given_, width);
    const T* normalizer = static_cast<const T*>(up_.normalizer.data) +
                          (std::int64_t(head.batch()) * call_.shape.num_heads + h) * call_.shape.num_queries + first;
    kernels::dot_rows(rows, columns, given_, width, n, width, dots_);
    for (int t = 0; t < n; ++t) {
      T* row = rows + std::ptrdiff_t(t) * columns;
      if (normalizer[t] == 0) {
        std::fill(row, row + columns, T(0));
        continue;
      }
      for (int w = 0; w < width; ++w) row[w] /= normalizer[t];
      row[width] = -dots_[t] / normalizer[t];
    }
  }
}

/// What the chunk before `first` will need: its inputs, and where its gradients are added.
template <class T>
void BackwardHead<T>::fetch_before(LinearHead<T>& head, int first, bool causal) {
  const int n = std::min(call_.chunk, first), at = first - n, g = head.head();
  head.fetch_next(at, n, causal && up_.dout);
  head.fetch_rows(to_.key, g, at, n);
  head.fetch_rows(to_.value, g, at, n);
  for (int h = g * call_.group; causal && h < (g + 1) * call_.group; ++h) {
    head.fetch_rows(up_.dout, h, at, n);
    head.fetch_rows(to_.query, h, at, n);
  }
}

// read = Q S
template <class T>
void BackwardHead<T>::back_through_reads(LinearHead<T>& head, const T* state, int first, int n) {
  const int rows = call_.rows(), columns = call_.columns();
  head.load_reads(first, n);
  load_dout(head, call_.group, first, n);
  kernels::transpose(state, columns, rows, columns, turned_, rows, T(1));
  for (int j = 0; j < call_.group; ++j) {
    const std::ptrdiff_t at = std::ptrdiff_t(j) * call_.chunk;
    const T* dout = dout_ + at * columns;
    kernels::product(n, rows, columns, dout, columns, 1, turned_, rows, gradients_.query + at * rows, rows);
    kernels::add_product(rows, columns, n, head.chunk().query + at * rows, 1, rows, dout, columns, dstate_, columns);
  }
  add_query(head, first, n);
}

/// The loaded chunk: its gradients, and that of the state before it.
template <class T>
void BackwardHead<T>::back_through_chunk(LinearHead<T>& head, const T* before, const T* after) {
  const std::int64_t size = call_.state_size();
  const Chunk<T> chunk = head.chunk();
  Chunk<T> writes = chunk;
  writes.heads = 0;
  const auto pieces = [&](bool alone) {
    std::vector<int> firsts;
    starts_.clear();
    for (int first = 0; first < chunk.tokens;) {
      const int n = head.piece().open(writes, first, alone);
      firsts.push_back(first);
      first += n;
      if (first == chunk.tokens) break;
      const std::size_t at = starts_.size();
      starts_.resize(at + std::size_t(size));
      std::copy_n(at == 0 ? before : starts_.data() + at - std::size_t(size), size, starts_.data() + at);
      head.piece().forward(starts_.data() + at, nullptr);
    }
    for (std::size_t i = firsts.size(); i-- > 0;) {
      head.piece().open(chunk, firsts[i], alone);
      const auto start = [&](std::size_t piece) { return starts_.data() + (piece - 1) * std::size_t(size); };
      head.piece().backward(i == 0 ? before : start(i), i + 1 == firsts.size() ? after : start(i + 1), dout_, dstate_,
                            gradients_);
    }
  };
  // As in LinearHead::walk: no later token hears of what is not finite in an earlier one.
  std::copy_n(dstate_, size, saved_);
  pieces(false);
  if (chunk.tokens > 1 && !finite(head)) {
    std::copy_n(saved_, size, dstate_);
    pieces(true);
  }
}

template <class T>
bool BackwardHead<T>::finite(LinearHead<T>& head) const {
  return head.finite(gradients_.query, head.chunk().heads, call_.rows()) &&
         head.finite(gradients_.key, 1, call_.rows()) && head.finite(gradients_.value, 1, call_.columns());
}

/// From gradients of phi(q) to those of q, into the caller's memory.
template <class T>
void BackwardHead<T>::add_query(LinearHead<T>& head, int first, int n) {
  if (!to_.query) return;
  const int rows = call_.rows(), width = call_.shape.head_dim;
  for (int j = 0; j < call_.group; ++j) {
    const int h = head.head() * call_.group + j;
    T* dquery = gradients_.query + std::ptrdiff_t(j) * call_.chunk * rows;
    if (!call_.features->identity()) {
      const T* mapped = head.chunk().query + std::ptrdiff_t(j) * call_.chunk * rows;
      call_.features->backward(n, head.raw(true, h, first, n), mapped, dquery, draw_, true);
      dquery = draw_;
    }
    add_rows(dquery, width, n, width, to_.query, head.batch(), h, first);
  }
}

template <class T>
void BackwardHead<T>::add_rest(LinearHead<T>& head, int first, int n, T* dbeta) {
  const int b = head.batch(), g = head.head(), width = call_.shape.head_dim;
  const auto add_numbers = [&](const T* from, const View& v) {
    for (int t = 0; t < n; ++t) *static_cast<T*>(row_at(v, b, g, first + t)) += from[t];
  };
  if (to_.key) {
    T* dkey = gradients_.key;
    if (!call_.features->identity()) {
      call_.features->backward(n, head.raw(false, g, first, n), head.chunk().key, dkey, draw_, false);
      dkey = draw_;
    }
    add_rows(dkey, width, n, width, to_.key, b, g, first);
  }
  if (to_.value) add_rows(gradients_.value, call_.columns(), n, call_.shape.value_dim, to_.value, b, g, first);
  if (to_.decay && to_.decay.shape.rank() == 4)
    add_rows(gradients_.decay, call_.gates, n, call_.gates, to_.decay, b, g, first);
  else if (to_.decay)
    add_numbers(gradients_.decay, to_.decay);
  if (dbeta)
    std::copy_n(gradients_.beta, n, dbeta + first);
  else if (to_.beta)
    add_numbers(gradients_.beta, to_.beta);
}

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

}  // namespace

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

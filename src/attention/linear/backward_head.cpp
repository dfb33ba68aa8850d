// Back through one chunk, and from its gradients to the caller's arrays (backward_head.hpp).
#include "attention/linear/backward_head.hpp"

#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {

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

#define ATTUNE_INSTANTIATE(T)                                                            \
  template void BackwardHead<T>::back_through_reads(LinearHead<T>&, const T*, int, int); \
  template void BackwardHead<T>::back_through_chunk(LinearHead<T>&, const T*, const T*); \
  template void BackwardHead<T>::fetch_before(LinearHead<T>&, int, bool);                \
  template void BackwardHead<T>::load_dout(const LinearHead<T>&, int, int, int);         \
  template void BackwardHead<T>::add_query(LinearHead<T>&, int, int);                    \
  template void BackwardHead<T>::add_rest(LinearHead<T>&, int, int, T*);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::engine

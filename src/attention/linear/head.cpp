// Chunks in and through; see head.hpp.
#include "attention/linear/head.hpp"

#include <algorithm>

#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {
namespace {

/// Blocks of products that fetch rows for the next chunk: less than a chunk has.
constexpr int kFetches = 16;

/// One number a token, of any stride.
template <class T>
void load_numbers(const ConstView& v, int b, int h, int first, int n, T* to) {
  for (int t = 0; t < n; ++t) convert(v.dtype, row_at(v, b, h, first + t), dtype_of<T>(), to + t, 1);
}

}  // namespace

template <class T>
LinearPlan<T>::LinearPlan(const LinearAttendShape& shape, const LinearAttendInputs& in,
                          const LinearAttendOptions& options)
    : features(options.features, shape.head_dim) {
  call.shape = shape;
  call.options = &options;
  call.in = &in;
  call.features = &features;
  call.group = shape.num_heads / shape.num_kv_heads;
  call.gates = !takes_decay(options.rule) ? 0 : in.decay.shape.rank() == 4 ? shape.feature_dim : 1;
  call.delta = takes_beta(options.rule);
  call.scale = options.normalize ? T(1) : T(options.scale == 0 ? 1 / std::sqrt(double(shape.head_dim)) : options.scale);
  // Longer chunks multiply more within themselves, shorter ones move the state in and out more often.
  const int fitting = shape.feature_dim <= 64 ? 32 : 64;
  const int longest = std::max({1, shape.num_queries, shape.num_keys});
  call.chunk = std::min(options.chunk == 0 ? fitting : options.chunk, longest);
}

template <class T>
LinearHead<T>::LinearHead(const LinearPlan<T>& plan, Arena& arena, bool backward)
    : plan_(plan),
      call_(plan.call),
      chunk_{.query = arena.take<T>(std::int64_t(call_.group) * call_.chunk * call_.rows()),
             .key = arena.take<T>(std::int64_t(call_.chunk) * call_.rows()),
             .value = arena.take<T>(std::int64_t(call_.chunk) * call_.columns()),
             .decay = arena.take<T>(std::int64_t(call_.chunk) * call_.gates),
             .beta = arena.take<T>(call_.chunk)},
      raw_(arena.take<T>(std::int64_t(call_.chunk) * call_.shape.head_dim)),
      saved_(arena.take<T>(call_.state_size())),
      piece_(call_, arena, backward) {
  piece_.fetch(&ahead_);
}

template <class T>
void LinearHead<T>::begin(T* state) const {
  const ConstView& from = call_.in->state;
  const std::int64_t size = call_.state_size();
  if (!from) {
    std::fill(state, state + size, T(0));
    return;
  }
  const T* mine = static_cast<const T*>(from.data) + (std::int64_t(batch_) * call_.shape.num_kv_heads + head_) * size;
  if (mine != state) std::copy(mine, mine + size, state);
}

template <class T>
const T* LinearHead<T>::raw(bool query, int h, int first, int n) {
  const int width = call_.shape.head_dim;
  load_rows(query ? call_.in->query : call_.in->key, batch_, h, first, n, width, raw_, width);
  return raw_;
}

template <class T>
void LinearHead<T>::load_writes(int first, int n) {
  const LinearAttendInputs& in = *call_.in;
  const int width = call_.shape.head_dim, columns = call_.columns();
  chunk_.tokens = n;
  chunk_.heads = 0;
  if (plan_.features.identity())
    load_rows(in.key, batch_, head_, first, n, width, chunk_.key, width);
  else
    plan_.features.map(n, raw(false, head_, first, n), chunk_.key, false);
  load_rows(in.value, batch_, head_, first, n, call_.shape.value_dim, chunk_.value, columns);
  if (call_.options->normalize) {
    for (int t = 0; t < n; ++t) chunk_.value[t * columns + columns - 1] = T(1);
  }
  if (call_.gates == 1) load_numbers(in.decay, batch_, head_, first, n, chunk_.decay);
  if (call_.gates > 1) load_rows(in.decay, batch_, head_, first, n, call_.gates, chunk_.decay, call_.gates);
  if (call_.delta) load_numbers(in.beta, batch_, in.beta.shape[1] == 1 ? 0 : head_, first, n, chunk_.beta);
}

template <class T>
void LinearHead<T>::load_reads(int first, int n) {
  const int width = call_.shape.head_dim;
  chunk_.tokens = n;
  chunk_.heads = call_.group;
  for (int j = 0; j < call_.group; ++j) {
    const int h = head_ * call_.group + j;
    T* to = chunk_.query + std::ptrdiff_t(j) * call_.chunk * call_.rows();
    if (plan_.features.identity())
      load_rows(call_.in->query, batch_, h, first, n, width, to, width);
    else
      plan_.features.map(n, raw(true, h, first, n), to, true);
  }
}

template <class T>
void LinearHead<T>::fetch_rows(const ConstView& v, int h, int first, int n) {
  if (!v || n == 0) return;
  const std::int64_t size = std::int64_t(size_of(v.dtype));
  ahead_.add(static_cast<const char*>(row_at(v, batch_, h, first)), v.strides[2] * size, n, int(v.shape[3] * size));
  ahead_.spread(kFetches);
}

template <class T>
void LinearHead<T>::fetch_next(int first, int n, bool queries) {
  ahead_.clear();
  fetch_rows(call_.in->key, head_, first, n);
  fetch_rows(call_.in->value, head_, first, n);
  if (call_.gates > 1) fetch_rows(call_.in->decay, head_, first, n);
  for (int j = 0; queries && j < call_.group; ++j) fetch_rows(call_.in->query, head_ * call_.group + j, first, n);
}

template <class T>
void LinearHead<T>::walk(T* state, T* out) {
  const auto pieces = [&](bool alone) {
    for (int first = 0; first < chunk_.tokens;) {
      const int n = piece_.open(chunk_, first, alone);
      piece_.forward(state, out);
      first += n;
    }
  };
  // A product over the chunk multiplies what later tokens hold with zeros, and 0 times infinity is NaN: where something
  // is not finite, the chunk is walked again token by token, so that no row hears of later ones.
  const bool guarded = chunk_.heads > 0 && chunk_.tokens > 1;
  if (guarded) std::copy(state, state + call_.state_size(), saved_);
  pieces(false);
  if (guarded && !finite(out, chunk_.heads, call_.columns())) {
    std::copy(saved_, saved_ + call_.state_size(), state);
    pieces(true);
  }
}

template <class T>
void LinearHead<T>::read(const T* state, T* out) {
  const int rows = call_.rows(), columns = call_.columns();
  for (int h = 0; h < chunk_.heads; ++h) {
    const std::ptrdiff_t at = std::ptrdiff_t(h) * call_.chunk;
    kernels::product(chunk_.tokens, columns, rows, chunk_.query + at * rows, rows, 1, state, columns,
                     out + at * columns, columns);
  }
}

template <class T>
bool LinearHead<T>::finite(const T* rows, int heads, int width) const {
  for (int h = 0; h < heads; ++h) {
    if (!kernels::all_finite(rows + std::ptrdiff_t(h) * call_.chunk * width, chunk_.tokens, width, width)) return false;
  }
  return true;
}

template struct LinearPlan<float>;
template struct LinearPlan<double>;
template class LinearHead<float>;
template class LinearHead<double>;

}  // namespace attune::engine

// From views and options to the engine: validation, dtypes, the choice between the plain path and the stages.
#include "attune/attention/attend.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "attention/call.hpp"
#include "attention/decode.hpp"
#include "attention/plain_half.hpp"
#include "attention/task.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace engine {
namespace {

std::string extents(const ConstView& v) { return v.shape.text(); }

void check_view(const char* function, const char* name, const ConstView& v, const Shape& shape, DType dtype) {
  if (v.shape.rank() != shape.rank() || !(v.shape == shape)) {
    fail(function, fmt::format("{} {}", name, shape.text()), fmt::format("got {}", extents(v)));
  }
  if (v.empty() && shape.size() > 0) fail(function, fmt::format("memory for {}", name), "got none");
  if (v.dtype != dtype) {
    fail(function, fmt::format("{} in {}", name, name_of(dtype)), fmt::format("got {}", name_of(v.dtype)));
  }
}
void check_rows(const char* function, const char* name, const ConstView& v, const Shape& shape, DType dtype) {
  check_view(function, name, v, shape, dtype);
  if (shape.back() > 1 && v.strides[std::size_t(shape.rank() - 1)] != 1) {
    fail(function, fmt::format("{} with a contiguous last dimension", name),
         fmt::format("got stride {}", v.strides[std::size_t(shape.rank() - 1)]));
  }
}
void check_contiguous(const char* function, const char* name, const ConstView& v, const Shape& shape, DType dtype) {
  check_view(function, name, v, shape, dtype);
  const Strides want = contiguous_strides(shape);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] > 1 && v.strides[std::size_t(i)] != want[std::size_t(i)]) {
      fail(function, fmt::format("{} in contiguous memory", name),
           fmt::format("got stride {} at axis {}", v.strides[std::size_t(i)], i));
    }
  }
}

int narrow(const char* function, const char* what, std::int64_t n) {
  if (n > std::numeric_limits<int>::max() / 2) {
    fail(function, fmt::format("at most {} {}", std::numeric_limits<int>::max() / 2, what), fmt::format("got {}", n));
  }
  return int(n);
}

Shape query_shape(const AttendShape& s, int width) { return {s.batch_size, s.num_heads, s.num_queries, width}; }
Shape key_shape(const AttendShape& s, int width) { return {s.batch_size, s.num_kv_heads, s.num_keys, width}; }
Shape row_shape(const AttendShape& s) { return {s.batch_size, s.num_heads, s.num_queries}; }

Shape array_shape(const ParameterSpec& spec, const AttendShape& s) {
  std::int64_t e[Shape::kMaxRank];
  int rank = 0;
  if (spec.per == Per::batch || spec.per == Per::batch_head) e[rank++] = s.batch_size;
  if (spec.per == Per::head || spec.per == Per::batch_head) e[rank++] = s.num_heads;
  if (spec.per == Per::kv_head) e[rank++] = s.num_kv_heads;
  // A copy of one number adds no axis: slope is [H], not [H, 1].
  const bool single = spec.shape.size() == 1 && spec.shape[0] == 1 && rank > 0;
  if (!single) {
    for (int n : spec.shape) e[rank++] = n;
  }
  return Shape(e, rank);
}

/// Calls f(kind, stage) for the given stages in the order of parameters. T is any scalar: names and shapes do not
/// depend on it.
template <class F>
void each_stage(const AttendOptions& o, F f) {
  if (o.position) f(*o.position.on<float>());
  if (o.score) f(*o.score.on<float>());
  for (const AnyBias& b : o.bias) f(*b.on<float>());
  f(*o.normalizer.on<float>());
}

}  // namespace

bool rows_fit(const ConstView& v, const Shape& shape, DType dtype) {
  return v.shape == shape && v.dtype == dtype && (!v.empty() || shape.size() == 0) &&
         (shape.back() <= 1 || v.strides[3] == 1);
}
bool numbers_fit(const ConstView& v, const Shape& shape, DType dtype) {
  if (v.empty()) return true;
  if (!(v.shape == shape) || v.dtype != dtype) return false;
  const Strides want = contiguous_strides(shape);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] > 1 && v.strides[std::size_t(i)] != want[std::size_t(i)]) return false;
  }
  return true;
}

AttendShape shape_of(const char* function, const ConstView& query, const ConstView& key, const ConstView& value) {
  for (const auto& [name, v] : {std::pair{"query", &query}, {"key", &key}, {"value", &value}}) {
    if (v->shape.rank() != 4)
      fail(function, fmt::format("{} [batch, heads, tokens, width]", name), fmt::format("got {}", extents(*v)));
  }
  AttendShape s;
  s.batch_size = narrow(function, "batch entries", query.shape[0]);
  s.num_heads = narrow(function, "heads", query.shape[1]);
  s.num_queries = narrow(function, "queries", query.shape[2]);
  s.query_dim = narrow(function, "numbers per query", query.shape[3]);
  s.num_kv_heads = narrow(function, "key heads", key.shape[1]);
  s.num_keys = narrow(function, "keys", key.shape[2]);
  s.key_dim = narrow(function, "numbers per key", key.shape[3]);
  s.value_dim = narrow(function, "numbers per value", value.shape[3]);
  if (key.shape[0] != s.batch_size || value.shape[0] != s.batch_size || value.shape[1] != s.num_kv_heads ||
      value.shape[2] != s.num_keys) {
    fail(function, "query [B, H, Tq, D], key [B, Hkv, Tk, D], value [B, Hkv, Tk, Dv]",
         fmt::format("got query {}, key {}, value {}", extents(query), extents(key), extents(value)));
  }
  return s;
}

void check_options(const char* function, const AttendShape& s, const AttendOptions& o) {
  if (s.num_kv_heads < 1 || s.num_heads % s.num_kv_heads != 0) {
    fail(function, "a number of query heads that the key heads divide",
         fmt::format("got {} query heads and {} key heads", s.num_heads, s.num_kv_heads));
  }
  if (s.query_dim < 1 || s.key_dim < 1) {
    fail(function, "query and key of width 1 or more", fmt::format("got {} and {}", s.query_dim, s.key_dim));
  }
  if (!o.score) fail(function, "a score", "got none");
  if (!o.normalizer) fail(function, "a normalizer", "got none");
  if (!(o.dropout_p >= 0 && o.dropout_p < 1)) {
    fail(function, "dropout_p of at least 0 and less than 1", fmt::format("got {}", o.dropout_p));
  }
  if (o.offset.size() > 1 && o.offset.size() != std::size_t(s.batch_size)) {
    fail(function, fmt::format("one offset, or one for each of {} batch entries", s.batch_size),
         fmt::format("got {}", o.offset.size()));
  }
  for (int offset : o.offset) {
    if (std::abs(std::int64_t(offset)) > std::numeric_limits<int>::max() / 4) {
      fail(function, "an offset within a quarter of the integer range", fmt::format("got {}", offset));
    }
  }
  for (const AnyBias& b : o.bias) {
    if (!b) fail(function, "biases that hold a stage", "got an empty one");
  }
  each_stage(o, [&](const Stage& stage) { stage.check(s); });
  if (o.mask) o.mask->check(s);
}

template <class T>
Strided<T> strided(const ConstView& v) {
  return {static_cast<T*>(const_cast<void*>(v.data)), v.strides[0], v.strides[1], v.strides[2]};
}

std::vector<int> offsets_of(const AttendShape& s, const AttendOptions& o) {
  if (o.offset.size() > 1) return o.offset;
  const int aligned = o.alignment == Alignment::bottom_right ? s.num_keys - s.num_queries : 0;
  return std::vector<int>(std::size_t(s.batch_size), o.offset.empty() ? aligned : o.offset[0]);
}

template <class T>
Problem<T> make_problem(const AttendShape& s, const AttendOptions& o) {
  Problem<T> p;
  p.shape = s;
  p.offset = offsets_of(s, o);
  auto bind = [&](auto& bound, const auto* stage) {
    bound.stage = stage;
    if (!stage) return;
    for (auto& spec : stage->parameters(s)) bound.arrays.push_back({std::move(spec)});
  };
  bind(p.position, o.position.template on<T>());
  bind(p.score, o.score.template on<T>());
  p.bias.resize(o.bias.size());
  for (std::size_t i = 0; i < o.bias.size(); ++i) bind(p.bias[i], o.bias[i].template on<T>());
  p.mask = o.mask.get();
  bind(p.normalizer, o.normalizer.template on<T>());
  if (o.dropout_p > 0) p.keep_threshold = dropout_threshold(o.dropout_p);
  p.seed = o.seed;
  p.first_batch = o.first_batch;
  return p;
}
template Problem<float> make_problem(const AttendShape&, const AttendOptions&);
template Problem<double> make_problem(const AttendShape&, const AttendOptions&);
template Problem<Dual<double>> make_problem(const AttendShape&, const AttendOptions&);

namespace {

/// Inputs in the type that computes: half types get a contiguous float copy, all others are used in place.
template <class T>
struct Loaded {
  std::vector<std::vector<T>> copies;

  ConstView load(const ConstView& v) {
    if (v.dtype == dtype_of<T>()) return v;
    copies.emplace_back(std::size_t(v.shape.size()));
    T* to = copies.back().data();
    const std::int64_t rows = v.shape.rank() == 4 ? v.shape[0] * v.shape[1] * v.shape[2] : 1;
    const std::int64_t n = v.shape.rank() == 4 ? v.shape[3] : v.shape.size();
    parallel_ranges(rows, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        std::int64_t at = 0;
        if (v.shape.rank() == 4) {
          at = r / (v.shape[1] * v.shape[2]) * v.strides[0] + r / v.shape[2] % v.shape[1] * v.strides[1] +
               r % v.shape[2] * v.strides[2];
        }
        convert(v.dtype, static_cast<const std::byte*>(v.data) + at * std::int64_t(size_of(v.dtype)), dtype_of<T>(),
                to + r * n, n);
      }
    });
    return {to, v.shape};
  }
};

template <class T>
void bind_inputs(const char* function, Problem<T>& p, Loaded<T>& loaded, const AttendInputs& in) {
  const AttendShape& s = p.shape;
  const DType dtype = in.query.dtype;
  check_rows(function, "query", in.query, query_shape(s, s.query_dim), dtype);
  check_rows(function, "key", in.key, key_shape(s, s.key_dim), dtype);
  check_rows(function, "value", in.value, key_shape(s, s.value_dim), dtype);
  loaded.copies.reserve(3 + in.parameters.size());  // views point into the copies
  p.query = strided<const T>(loaded.load(in.query));
  p.key = strided<const T>(loaded.load(in.key));
  p.value = strided<const T>(loaded.load(in.value));
  std::size_t at = 0, wanted = 0;
  p.each_bound([&](const auto& arrays) { wanted += arrays.size(); });
  if (wanted != in.parameters.size()) {
    std::string names;
    p.each_bound([&](const auto& arrays) {
      for (const auto& a : arrays)
        names += (names.empty() ? "" : ", ") + a.spec.name + " " + array_shape(a.spec, s).text();
    });
    fail(function, fmt::format("{} parameters ({})", wanted, names.empty() ? "none" : names),
         fmt::format("got {}", in.parameters.size()));
  }
  auto bind = [&](auto& arrays) {
    for (auto& a : arrays) {
      const ConstView& v = in.parameters[at++];
      check_contiguous(function, a.spec.name.c_str(), v, array_shape(a.spec, s), v.dtype);
      if (v.dtype != dtype && v.dtype != dtype_of<T>()) {
        fail(function, fmt::format("{} in {} or {}", a.spec.name, name_of(dtype), name_of(dtype_of<T>())),
             fmt::format("got {}", name_of(v.dtype)));
      }
      a.value = static_cast<const T*>(loaded.load(v).data);
    }
  };
  bind(p.position.arrays);
  bind(p.score.arrays);
  for (auto& b : p.bias) bind(b.arrays);
  bind(p.normalizer.arrays);
}

template <class T>
const T* row_numbers(const char* function, const char* name, const ConstView& v, const AttendShape& s, bool required) {
  if (v.empty() && !required) return nullptr;
  check_contiguous(function, name, v, row_shape(s), dtype_of<T>());
  return static_cast<const T*>(v.data);
}

/// Rows to heads, in a fixed order.
template <class T>
void reduce(const Problem<T>& p, const RowStatistics<T>& rows, const T* lse, const T* entropy, Statistics& out) {
  const AttendShape& s = p.shape;
  const std::size_t heads = std::size_t(s.batch_size) * s.num_heads;
  const bool moments = p.normalizer.stage->gives_lse();
  out = {};
  out.batch_size = s.batch_size;
  out.num_heads = s.num_heads;
  out.rows.assign(heads, 0);
  out.choosing_rows.assign(heads, 0);
  out.non_finite.assign(heads, 0);
  out.largest_score.assign(heads, 0);
  out.smallest_score.assign(heads, 0);
  out.largest_logit.assign(heads, 0);
  if (moments) {
    for (auto* v : {&out.lse, &out.entropy, &out.entropy_normalized, &out.entropy_min, &out.variance, &out.largest_prob,
                    &out.sink_mass}) {
      v->assign(heads, 0);
    }
  }
  std::vector<double> inverse(moments ? std::size_t(s.num_keys) + 2 : 0);  // 1 / ln n, once asked for: 0 until then
  const auto inverse_log = [&](int n) {
    double& known = inverse[std::size_t(n)];
    return known > 0 ? known : known = 1 / std::log(double(n));
  };
  for (std::size_t h = 0; h < heads; ++h) {
    const std::size_t first = h * std::size_t(s.num_queries), last = first + std::size_t(s.num_queries);
    T score = -std::numeric_limits<T>::infinity(), logit = score;
    T low = std::numeric_limits<T>::infinity(), least = low;
    double sums[6] = {};
    std::int64_t seen = 0, several = 0, wrong = 0;
    for (std::size_t i = first; i < last; ++i) {
      if (rows.visible[i] == 0) continue;
      ++seen;
      wrong += rows.non_finite[i];
      score = std::max(score, rows.largest_score[i]);
      low = std::min(low, rows.smallest_score[i]);
      logit = std::max(logit, rows.largest_logit[i]);
      several += rows.visible[i] > 1;
      if (!moments) continue;
      sums[0] += double(lse[i]);
      sums[1] += double(rows.variance[i]);
      sums[2] += double(rows.largest_prob[i]);
      sums[3] += double(rows.sink_mass[i]);
      if (rows.visible[i] < 2) continue;
      sums[4] += double(entropy[i]);
      const int keys = rows.visible[i] + (rows.sink_mass[i] > T(0) ? 1 : 0);  // a sink is one more key
      sums[5] += double(entropy[i]) * inverse_log(keys);
      least = std::min(least, entropy[i]);
    }
    out.non_finite[h] = wrong;
    out.rows[h] = seen;
    out.choosing_rows[h] = several;
    if (seen == 0) continue;
    out.largest_score[h] = score;
    out.smallest_score[h] = low;
    out.largest_logit[h] = logit;
    if (!moments) continue;
    out.lse[h] = sums[0] / double(seen);
    out.variance[h] = sums[1] / double(seen);
    out.largest_prob[h] = sums[2] / double(seen);
    out.sink_mass[h] = sums[3] / double(seen);
    if (several == 0) continue;
    out.entropy[h] = sums[4] / double(several);
    out.entropy_normalized[h] = sums[5] / double(several);
    out.entropy_min[h] = least;
  }
}

template <class T>
void forward_typed(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  constexpr const char* kFunction = "attend_forward";
  const AttendShape s = shape_of(kFunction, in.query, in.key, in.value);
  check_options(kFunction, s, o);
  Problem<T> p = make_problem<T>(s, o);
  Loaded<T> loaded;
  bind_inputs(kFunction, p, loaded, in);
  check_rows(kFunction, "out", out.out, query_shape(s, s.value_dim), in.query.dtype);
  const bool moments = p.normalizer.stage->gives_lse();
  if (out.entropy && !moments) {
    fail(kFunction, "softmax or softmax_with_sink for an entropy", fmt::format("got {}", p.normalizer.stage->name()));
  }
  T* lse = const_cast<T*>(row_numbers<T>(kFunction, "lse", out.lse, s, false));
  T* entropy = const_cast<T*>(row_numbers<T>(kFunction, "entropy", out.entropy, s, false));

  // Results in the computing type; half types are rounded at the end.
  const bool half = in.query.dtype != dtype_of<T>();
  std::vector<T> wide(half ? std::size_t(out.out.shape.size()) : 0);
  ForwardResult<T> result;
  result.out = half ? strided<T>(View(wide.data(), out.out.shape)) : strided<T>(out.out);
  result.lse = lse;
  result.entropy = entropy;
  const std::size_t rows = std::size_t(row_shape(s).size());
  RowStatistics<T> row_statistics;
  std::vector<T> lse_memory, entropy_memory;
  if (out.statistics) {
    row_statistics.resize(rows);
    if (!lse) lse_memory.resize(rows), result.lse = lse_memory.data();
    if (moments && !entropy) entropy_memory.resize(rows), result.entropy = entropy_memory.data();
    result.statistics = &row_statistics;
  }
  if (is_plain(o)) {
    plain_forward(p, o, result);
  } else {
    forward(p, result);
  }
  if (out.statistics) {
    reduce(p, row_statistics, result.lse, result.entropy, *out.statistics);
  }
  if (half) {
    const int dv = s.value_dim;
    parallel_ranges(std::int64_t(rows), 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t at = r / (std::int64_t(s.num_heads) * s.num_queries) * out.out.strides[0] +
                                r / s.num_queries % s.num_heads * out.out.strides[1] +
                                r % s.num_queries * out.out.strides[2];
        convert(dtype_of<T>(), wide.data() + r * dv, out.out.dtype,
                static_cast<std::byte*>(out.out.data) + at * std::int64_t(size_of(out.out.dtype)), dv);
      }
    });
  }
}

template <class T>
void backward_typed(const AttendInputs& in, const AttendUpstream& up, const AttendGradients& g,
                    const AttendOptions& o) {
  constexpr const char* kFunction = "attend_backward";
  const AttendShape s = shape_of(kFunction, in.query, in.key, in.value);
  check_options(kFunction, s, o);
  Problem<T> p = make_problem<T>(s, o);
  Loaded<T> loaded, incoming;
  bind_inputs(kFunction, p, loaded, in);
  const bool moments = p.normalizer.stage->gives_lse();
  if ((up.dlse || up.dentropy) && !moments) {
    fail(kFunction, "softmax or softmax_with_sink for gradients of lse or entropy",
         fmt::format("got {}", p.normalizer.stage->name()));
  }
  check_rows(kFunction, "out", up.out, query_shape(s, s.value_dim), in.query.dtype);
  check_rows(kFunction, "dout", up.dout, query_shape(s, s.value_dim), up.dout.dtype);
  if (up.dout.dtype != in.query.dtype && up.dout.dtype != dtype_of<T>()) {
    fail(kFunction, fmt::format("dout in {} or {}", name_of(in.query.dtype), name_of(dtype_of<T>())),
         fmt::format("got {}", name_of(up.dout.dtype)));
  }
  incoming.copies.reserve(2);
  BackwardInputs<T> b;
  b.out = strided<const T>(incoming.load(up.out));
  b.dout = strided<const T>(incoming.load(up.dout));
  b.lse = row_numbers<T>(kFunction, "lse", up.lse, s, true);
  b.dlse = row_numbers<T>(kFunction, "dlse", up.dlse, s, false);
  b.dentropy = row_numbers<T>(kFunction, "dentropy", up.dentropy, s, false);
  b.entropy = row_numbers<T>(kFunction, "entropy", up.entropy, s, up.dentropy.data != nullptr);

  BackwardResult<T> result;
  auto gradient = [&](Strided<T>& to, const char* name, const View& v, const Shape& shape) {
    if (v.empty()) return;
    check_rows(kFunction, name, v, shape, dtype_of<T>());
    to = strided<T>(v);
  };
  gradient(result.query, "dquery", g.query, query_shape(s, s.query_dim));
  gradient(result.key, "dkey", g.key, key_shape(s, s.key_dim));
  gradient(result.value, "dvalue", g.value, key_shape(s, s.value_dim));
  if (!g.parameters.empty() && g.parameters.size() != in.parameters.size()) {
    fail(kFunction, fmt::format("gradients for none or all of {} parameters", in.parameters.size()),
         fmt::format("got {}", g.parameters.size()));
  }
  std::size_t at = 0;
  auto bind = [&](auto& arrays) {
    for (auto& a : arrays) {
      if (at >= g.parameters.size()) return;
      const View& v = g.parameters[at++];
      if (v.empty()) continue;
      check_contiguous(kFunction, ("d" + a.spec.name).c_str(), v, array_shape(a.spec, s), dtype_of<T>());
      a.grad = static_cast<T*>(v.data);
    }
  };
  bind(p.position.arrays);
  bind(p.score.arrays);
  for (auto& bias : p.bias) bind(bias.arrays);
  bind(p.normalizer.arrays);
  if (is_plain(o) && !up.dentropy) {
    plain_backward(p, o, b, result);
  } else {
    backward(p, b, result);
  }
}

template <class F>
void on_dtype(const char* function, const ConstView& query, F f) {
  if (query.dtype == DType::float64) return f(double{});
  if (query.dtype == DType::float32 || query.dtype == DType::bfloat16 || query.dtype == DType::float16)
    return f(float{});
  fail(function, "a floating point dtype", "got another");
}

template <class T>
void map_typed(const AttendInputs& in, ConstView lse, View map, const MapOptions& m, const AttendOptions& o) {
  constexpr const char* kFunction = "attend_map";
  const AttendShape s = shape_of(kFunction, in.query, in.key, in.value);
  check_options(kFunction, s, o);
  Problem<T> p = make_problem<T>(s, o);
  Loaded<T> loaded;
  bind_inputs(kFunction, p, loaded, in);
  const int heads = m.num_heads < 0 ? s.num_heads - m.first_head : m.num_heads;
  const int queries = m.num_queries < 0 ? s.num_queries - m.first_query : m.num_queries;
  if (m.first_head < 0 || heads < 0 || m.first_head + heads > s.num_heads || m.first_query < 0 || queries < 0 ||
      m.first_query + queries > s.num_queries) {
    fail(kFunction, fmt::format("heads within {} and queries within {}", s.num_heads, s.num_queries),
         fmt::format("got heads {} + {} and queries {} + {}", m.first_head, heads, m.first_query, queries));
  }
  check_contiguous(kFunction, "map", map, {s.batch_size, heads, queries, s.num_keys}, dtype_of<T>());
  const T* row_stat = row_numbers<T>(kFunction, "lse", lse, s, m.exposed == Exposed::probs);
  map_tiles(p, m, row_stat, heads, queries, static_cast<T*>(map.data));
}

}  // namespace
}  // namespace engine

std::vector<AttendParameter> attend_parameters(const AttendOptions& o, const AttendShape& s) {
  engine::check_options("attend_parameters", s, o);
  std::vector<AttendParameter> all;
  engine::each_stage(o, [&](const Stage& stage) {
    for (const ParameterSpec& spec : stage.parameters(s)) {
      all.push_back({std::string(stage.name()), spec.name, engine::array_shape(spec, s), spec.start});
    }
  });
  return all;
}

void attend_forward(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  if (o.sequences) return engine::forward_sequences(in, out, o);
  if (engine::decode_forward(in, out, o) || engine::half_forward(in, out, o)) {
    if (!out.entropy && !out.statistics) return;
    // Entropy and statistics come from a pass over tiles of logits, which writes its result elsewhere.
    std::vector<std::byte> memory(std::size_t(out.out.shape.size()) * size_of(out.out.dtype));
    const View spare(memory.data(), out.out.dtype, out.out.shape);
    return engine::forward_tiles(in, {.out = spare, .entropy = out.entropy, .statistics = out.statistics}, o);
  }
  engine::forward_tiles(in, out, o);
}
void engine::forward_tiles(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  engine::on_dtype("attend_forward", in.query, [&](auto t) { engine::forward_typed<decltype(t)>(in, out, o); });
}
void attend_backward(const AttendInputs& in, const AttendUpstream& up, const AttendGradients& g,
                     const AttendOptions& o) {
  if (o.sequences) return engine::backward_sequences(in, up, g, o);
  if (engine::half_backward(in, up, g, o)) return;
  engine::on_dtype("attend_backward", in.query, [&](auto t) { engine::backward_typed<decltype(t)>(in, up, g, o); });
}
void attend_map(const AttendInputs& in, ConstView lse, View map, const MapOptions& m, const AttendOptions& o) {
  if (o.sequences) fail("attend_map", "one sequence in a batch entry", "got options with sequences");
  engine::on_dtype("attend_map", in.query, [&](auto t) { engine::map_typed<decltype(t)>(in, lse, map, m, o); });
}

}  // namespace attune

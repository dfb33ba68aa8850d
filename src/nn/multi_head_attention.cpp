// MultiHeadAttention. Self attention is one product for query, key and value heads, attended to where they lie; cross
// attention is one for the queries and one for the memory; decoding appends key and value columns to the cache.
#include "attune/nn/multi_head_attention.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "attune/attention/apply_position.hpp"
#include "attune/autograd/ops/dropout.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/norm.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/ops/spectral.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "nn/told.hpp"

namespace attune::nn {

std::string_view name_of(NormPlace place) {
  return place == NormPlace::none ? "none" : place == NormPlace::pre ? "pre" : "post";
}
std::string_view name_of(QkNorm norm) {
  switch (norm) {
    case QkNorm::rms:
      return "rms";
    case QkNorm::l2:
      return "l2";
    default:
      return "none";
  }
}
QkNorm qk_norm_from_name(std::string_view name) {
  for (const QkNorm norm : {QkNorm::none, QkNorm::rms, QkNorm::l2}) {
    if (name == name_of(norm)) return norm;
  }
  fail("qk_norm_from_name", "none, rms or l2", "got `" + std::string(name) + "`");
}

NormPlace norm_place_from_name(std::string_view name) {
  for (NormPlace p : {NormPlace::none, NormPlace::pre, NormPlace::post}) {
    if (name_of(p) == name) return p;
  }
  fail("norm_place_from_name", "none, pre or post", "got \"" + std::string(name) + "\"");
}

MultiHeadAttention::MultiHeadAttention(const MultiHeadAttentionOptions& options) : options_(options) {
  MultiHeadAttentionOptions& o = options_;
  if (o.model_dim < 1 || o.num_heads < 1) {
    fail("MultiHeadAttention", "model_dim and num_heads of at least 1",
         "got " + std::to_string(o.model_dim) + " and " + std::to_string(o.num_heads));
  }
  if (o.num_kv_heads == 0) o.num_kv_heads = o.num_heads;
  if (o.num_kv_heads < 1 || o.num_heads % o.num_kv_heads != 0) {
    fail("MultiHeadAttention", "num_heads that is a multiple of num_kv_heads",
         "got " + std::to_string(o.num_heads) + " and " + std::to_string(o.num_kv_heads));
  }
  if (o.head_dim == 0) {
    if (o.model_dim % o.num_heads != 0) {
      fail("MultiHeadAttention", "a model_dim that num_heads divides, or a head_dim",
           "got " + std::to_string(o.model_dim) + " and " + std::to_string(o.num_heads) + " heads");
    }
    o.head_dim = o.model_dim / o.num_heads;
  }
  if (o.value_dim == 0) o.value_dim = o.head_dim;
  if (o.memory_dim == 0) o.memory_dim = o.model_dim;
  if (o.head_dim < 1 || o.value_dim < 1 || o.memory_dim < 1) {
    fail("MultiHeadAttention", "positive widths",
         "got head_dim " + std::to_string(o.head_dim) + ", value_dim " + std::to_string(o.value_dim) + ", memory_dim " +
             std::to_string(o.memory_dim));
  }
  for (double p : {o.dropout, o.residual_dropout}) {
    if (!(p >= 0 && p < 1)) fail("MultiHeadAttention", "0 <= dropout < 1", "got " + std::to_string(p));
  }

  rows_[kKey] = o.num_heads * o.head_dim;
  rows_[kValue] = rows_[kKey] + o.num_kv_heads * o.head_dim;
  rows_[kEnd] = rows_[kValue] + o.num_kv_heads * o.value_dim;
  const bool stacked = o.memory_dim == o.model_dim;
  Tensor in = Tensor::empty({stacked ? rows_[kEnd] : rows_[kKey], o.model_dim});
  Tensor memory = stacked ? Tensor() : Tensor::empty({rows_[kEnd] - rows_[kKey], o.memory_dim});
  for (int part = kQuery; part < kEnd; ++part) {  // each projection is its own matrix to an initialiser
    const std::int64_t first = rows_[std::size_t(part)], end = rows_[std::size_t(part) + 1];
    Tensor block =
        stacked || part == kQuery ? slice(in, 0, first, end) : slice(memory, 0, first - rows_[kKey], end - rows_[kKey]);
    initialize(block, o.init, default_generator());
  }
  weight_in = add_parameter("weight_in", in);
  if (!stacked) weight_memory = add_parameter("weight_memory", memory);
  const std::int64_t width = o.num_heads * o.value_dim;
  weight_out = make_parameter({o.model_dim, width}, o.init);
  if (o.bias_terms) bias_in = add_parameter("bias_in", Tensor::zeros({rows_[kEnd]}));
  add_parameter("weight_out", weight_out);
  if (o.bias_terms) bias_out = add_parameter("bias_out", Tensor::zeros({o.model_dim}));
  add_stability_parameters();
  add_stage_parameters();
  if (o.norm != NormPlace::none) {
    norm_.emplace(o.norm_kind, NormOptions{.dim = o.model_dim});
    add_module("norm", *norm_);
  }
}

namespace {

AttendOptions attend_options(const MultiHeadAttentionOptions& o) {
  AttendOptions a;
  a.position = o.position;
  a.score = o.score;
  a.bias = o.bias;
  a.mask = o.mask;
  a.normalizer = o.normalizer;
  return a;
}

}  // namespace

void MultiHeadAttention::add_stability_parameters() {
  const MultiHeadAttentionOptions& o = options_;
  if (o.stability.qk_norm != QkNorm::none) {
    const std::int64_t width = o.stability.qk_norm == QkNorm::rms ? o.head_dim : 1;
    query_gain = add_parameter("query_gain", Tensor::ones({o.num_heads, width}));
    key_gain = add_parameter("key_gain", Tensor::ones({o.num_kv_heads, width}));
  }
  if (o.stability.output_gate) {
    weight_gate = add_parameter("weight_gate", make_parameter({o.num_heads, o.model_dim}, o.init));
    bias_gate = add_parameter("bias_gate", Tensor::zeros({o.num_heads}));
  }
  if (o.stability.sigma_reparam) {
    const bool stacked = !weight_memory.defined();
    const std::int64_t base = stacked ? 0 : rows_[kKey];
    const Tensor& rest = stacked ? weight_in : weight_memory;
    sigma_gain = add_parameter(
        "sigma_gain",
        Tensor::from(
            {spectral_norm(weight_in, 0, rows_[kKey]), spectral_norm(rest, rows_[kKey] - base, rows_[kValue] - base),
             spectral_norm(rest, rows_[kValue] - base, rows_[kEnd] - base), spectral_norm(weight_out, 0, o.model_dim)},
            {4}));
  }
}

void MultiHeadAttention::add_stage_parameters() {
  const MultiHeadAttentionOptions& o = options_;
  AttendShape shape;
  shape.batch_size = 1;
  shape.num_heads = int(o.num_heads);
  shape.num_kv_heads = int(o.num_kv_heads);
  shape.num_queries = shape.num_keys = int(o.num_tokens);
  shape.query_dim = shape.key_dim = int(o.head_dim);
  shape.value_dim = int(o.value_dim);
  std::vector<std::string> taken;
  for (const AttendParameter& p : attend_parameters(attend_options(o), shape)) {
    if (p.shape.size() == 0) {
      fail("MultiHeadAttention", "num_tokens for the learned array of stage " + p.stage,
           "its shape would be " + p.shape.text());
    }
    std::string name = p.stage;
    name.append("_").append(p.name);
    const auto before = std::count(taken.begin(), taken.end(), name);
    taken.push_back(name);
    if (before > 0) name.append("_").append(std::to_string(before + 1));
    stage_parameters.push_back(add_parameter(name, make_parameter(p)));
  }
}

MultiHeadAttention::Matrices MultiHeadAttention::matrices() const {
  if (!sigma_gain.defined()) return {weight_in, weight_memory, weight_out};
  const bool stacked = !weight_memory.defined();
  const std::int64_t key = rows_[kKey], value = rows_[kValue], end = rows_[kEnd];
  Matrices m;
  m.out = spectral_scale(weight_out, slice(sigma_gain, 0, 3, 4), {0, weight_out.shape()[0]});
  if (stacked) {
    m.in = spectral_scale(weight_in, slice(sigma_gain, 0, 0, 3), {0, key, value, end});
  } else {
    m.in = spectral_scale(weight_in, slice(sigma_gain, 0, 0, 1), {0, key});
    m.memory = spectral_scale(weight_memory, slice(sigma_gain, 0, 1, 3), {0, value - key, end - key});
  }
  return m;
}

namespace {

/// The position of rows first_row .. first_row + count - 1 of every head, in place: the first of them stands at `at`.
void place_heads(const AnyPosition& position, Side side, const PackedHeads& heads, std::int64_t first_row,
                 std::int64_t count, std::int64_t at) {
  const Shape& whole = heads.tensor.shape();  // [B, T, columns]
  const std::int64_t batch = whole[0], width = whole[2];
  auto* begin = static_cast<std::byte*>(heads.tensor.raw()) +
                (first_row * width + heads.column) * std::int64_t(size_of(heads.tensor.dtype()));
  const View rows(begin, heads.tensor.dtype(), {batch, heads.heads, count, heads.dim},
                  {whole[1] * width, heads.dim, width, 1});
  apply_position(position, side, rows, std::vector<int>(std::size_t(batch), int(at)), rows);
}

/// Heads [B, T, n D] as sqrt(D) x / |x| times gain [n, D or 1].
Tensor normalized_heads(const Tensor& x, const Tensor& gain, std::int64_t head_dim) {
  const Shape& shape = x.shape();
  const Tensor heads = reshape(x, {shape[0], shape[1], gain.shape()[0], head_dim});
  return reshape(rms_norm(heads, {}) * gain, shape);
}

}  // namespace

/// Columns from first_column on hold keys, then values, [B, T, Hkv D + Hkv Dv]: as they are kept and attended to.
Tensor MultiHeadAttention::keys_and_values(const Tensor& projected, std::int64_t first_column) const {
  const std::int64_t key_end = first_column + rows_[kValue] - rows_[kKey],
                     end = first_column + rows_[kEnd] - rows_[kKey];
  return concat({normalized_heads(slice(projected, 2, first_column, key_end), key_gain, options_.head_dim),
                 slice(projected, 2, key_end, end)},
                2);
}

/// Rows first .. end of the fused projection: x [B, T, C or memory_dim] -> [B, T, rows].
Tensor MultiHeadAttention::project(const Matrices& matrices, const Tensor& x, Part first, Part end) const {
  const std::int64_t begin = rows_[std::size_t(first)], last = rows_[std::size_t(end)];
  const bool from_memory = weight_memory.defined() && first != kQuery;
  const std::int64_t base = from_memory ? rows_[kKey] : 0;
  const Tensor& all = from_memory ? matrices.memory : matrices.in;
  const auto part = [](const Tensor& t, std::int64_t b, std::int64_t e) {
    return b == 0 && e == t.shape()[0] ? t : slice(t, 0, b, e);
  };
  const Tensor bias = bias_in.defined() ? part(bias_in, begin, last) : Tensor();
  return linear(x, part(all, begin - base, last - base), bias);
}

AttentionResult MultiHeadAttention::attend_to(const Tensor& query, const Tensor& memory,
                                              const AttentionCall& call) const {
  return attend_to(query, memory, memory, call);
}

AttentionResult MultiHeadAttention::attend_to(const Tensor& query, const Tensor& key, const Tensor& value,
                                              const AttentionCall& call) const {
  const MultiHeadAttentionOptions& o = options_;
  const bool has_memory = call.cache == nullptr || !call.cache->fixed;
  if (!query.defined() || query.rank() != 3 || query.shape()[2] != o.model_dim) {
    fail("MultiHeadAttention", "query [B, Tq, " + std::to_string(o.model_dim) + "]",
         query.defined() ? "got " + query.shape().text() : "got an undefined tensor");
  }
  for (const Tensor* t : {&key, &value}) {
    if (has_memory && (!t->defined() || t->rank() != 3 || t->shape()[2] != o.memory_dim)) {
      fail("MultiHeadAttention", "key and value [B, Tk, " + std::to_string(o.memory_dim) + "]",
           t->defined() ? "got " + t->shape().text() : "got an undefined tensor");
    }
  }
  const bool self = query.is(key) && query.is(value);
  const Tensor x = o.norm == NormPlace::pre ? (*norm_)(query) : query;

  AttendOptions options = attend_options(o);
  options.mask = options.mask & call.mask;
  if (!call.valid_keys.empty()) options.mask = options.mask & AnyMask(Padding{call.valid_keys});
  if (training() && o.dropout > 0) {
    options.dropout_p = o.dropout;
    options.seed = generator().next_u64();
  }
  AttendExtras extras;
  extras.parameters = stage_parameters;
  extras.weights = call.weights;
  extras.statistics = call.statistics;

  const Matrices all = matrices();
  const bool norms = query_gain.defined();
  const std::int64_t key_width = rows_[kValue] - rows_[kKey];
  PackedHeads q{{}, 0, o.num_heads, o.head_dim}, k{{}, 0, o.num_kv_heads, o.head_dim},
      v{{}, 0, o.num_kv_heads, o.value_dim};
  if (call.cache != nullptr) {
    KvCache& cache = *call.cache;
    if (cache.fixed) {
      q.tensor = project(all, x, kQuery, kKey);
    } else {
      if (!self) fail("MultiHeadAttention", "query = key = value with a cache that grows", "they differ");
      if (will_record({query, weight_in}))
        fail("MultiHeadAttention", "NoGrad around decoding with a cache", "gradients are on");
      q.tensor = project(all, x, kQuery, weight_memory.defined() ? kKey : kEnd);
      const Tensor rows = weight_memory.defined() ? project(all, x, kKey, kEnd) : q.tensor;
      const std::int64_t column = weight_memory.defined() ? 0 : rows_[kKey];
      options.offset = {int(cache.length)};
      cache.append(norms ? keys_and_values(rows, column) : rows, norms ? 0 : column, rows_[kEnd] - rows_[kKey]);
    }
    k.tensor = v.tensor = cache.rows;
    k.tokens = v.tokens = cache.length;
    v.column = key_width;
  } else if (self && !weight_memory.defined()) {
    q.tensor = k.tensor = v.tensor = project(all, x, kQuery, kEnd);
    k.column = rows_[kKey];
    v.column = rows_[kValue];
  } else {
    q.tensor = project(all, x, kQuery, kKey);
    const auto source = [&](const Tensor& t) { return t.is(query) ? x : t; };
    if (key.is(value)) {
      k.tensor = v.tensor = project(all, source(key), kKey, kEnd);
      v.column = key_width;
    } else {
      k.tensor = project(all, source(key), kKey, kValue);
      v.tensor = project(all, source(value), kValue, kEnd);
    }
  }
  if (norms) {
    // Values are attended to where the product wrote them; a cache holds keys that are normalised already.
    const auto columns = [](const PackedHeads& h) { return slice(h.tensor, 2, h.column, h.column + h.heads * h.dim); };
    q.tensor = normalized_heads(columns(q), query_gain, o.head_dim);
    if (call.cache == nullptr) k.tensor = normalized_heads(columns(k), key_gain, o.head_dim);
    q.column = 0;
    if (call.cache == nullptr) k.column = 0;
  }
  if (call.cache != nullptr && !call.cache->fixed && options.position &&
      is_lasting_position(options.position, int(o.num_kv_heads), int(o.head_dim))) {
    // Kept keys get their position once, as they come: a call would give it to all of them, token after token.
    const std::int64_t before = options.offset[0], tokens = query.shape()[1];
    place_heads(options.position, Side::query, q, 0, tokens, before);
    place_heads(options.position, Side::key, k, before, tokens, before);
    options.position = {};
  }
  Attended attended = detail::attend_seen(*this, "", q, k, v, options, extras);
  if (weight_gate.defined()) {
    const Shape rows = attended.out.shape();  // [B, Tq, H Dv]
    const Tensor gate = sigmoid(linear(x, weight_gate, bias_gate));
    attended.out = reshape(reshape(attended.out, {rows[0], rows[1], o.num_heads, o.value_dim}) *
                               reshape(gate, {rows[0], rows[1], o.num_heads, 1}),
                           rows);
  }
  AttentionResult result{linear(attended.out, all.out, bias_out), attended.weights, std::move(attended.statistics)};
  if (o.norm != NormPlace::none) {
    result.out = add_dropout(query, result.out, training() ? o.residual_dropout : 0, generator());
    if (o.norm == NormPlace::post) result.out = (*norm_)(result.out);
  }
  return result;
}

std::vector<ParameterRows> MultiHeadAttention::own_roles() const {
  const MultiHeadAttentionOptions& o = options_;
  const detail::HeadRows queries{Role::query, o.num_heads, o.head_dim}, keys{Role::key, o.num_kv_heads, o.head_dim},
      values{Role::value, o.num_kv_heads, o.value_dim};
  detail::Told told;
  if (weight_memory.defined()) {
    told.heads(weight_in, {queries}).heads(weight_memory, {keys, values});
  } else {
    told.heads(weight_in, {queries, keys, values});
  }
  told.heads(bias_in, {queries, keys, values}).all(weight_out, Role::output).all(bias_out, Role::output);
  told.all(weight_gate, Role::gain, true);
  for (const Tensor& t : {query_gain, key_gain, bias_gate, sigma_gain}) told.all(t, Role::gain);
  for (const Tensor& t : stage_parameters) told.all(t, Role::gain);
  return told.rows;
}

std::vector<AttentionSite> MultiHeadAttention::own_sites() const {
  const MultiHeadAttentionOptions& o = options_;
  const bool stacked = !weight_memory.defined();
  const std::int64_t d = o.head_dim, first_key = rows_[kKey];
  AttentionSite site;
  site.proportional = o.score.as<ScaledDot>() != nullptr;
  site.queries = detail::heads_of(weight_in, bias_in, 0, o.num_heads, d);
  site.keys = detail::heads_of(stacked ? weight_in : weight_memory, {}, stacked ? first_key : 0, o.num_kv_heads, d);
  for (std::int64_t g = 0; g < o.num_kv_heads; ++g)
    site.keys[std::size_t(g)].bias = detail::rows_of(bias_in, first_key + g * d, d);
  // One row a head of query-key norm, else one for all heads of sigma reparametrisation, which that would hide.
  const bool normalised = query_gain.defined();
  const auto gains = [&](std::vector<HeadProjection>& heads, const Tensor& of_heads, std::int64_t matrix) {
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h].gain =
          normalised ? detail::rows_of(of_heads, std::int64_t(h), 1) : detail::rows_of(sigma_gain, matrix, 1);
      heads[h].gain_scales_bias = normalised;
    }
  };
  gains(site.queries, query_gain, 0);
  gains(site.keys, key_gain, 1);
  return {site};
}

KvCache MultiHeadAttention::project_memory(const Tensor& memory) const {
  KvCache cache;
  cache.rows = project(matrices(), memory, kKey, kEnd);
  if (key_gain.defined()) cache.rows = keys_and_values(cache.rows, 0);
  cache.length = memory.shape()[1];
  cache.fixed = true;
  return cache;
}

void KvCache::append(const Tensor& from, std::int64_t column, std::int64_t width) {
  const std::int64_t batch = from.shape()[0], n = from.shape()[1], from_width = from.shape()[2];
  const auto element = std::int64_t(size_of(from.dtype()));
  const std::int64_t capacity = rows.defined() ? rows.shape()[1] : 0;
  if (rows.defined() && (rows.shape()[0] != batch || rows.shape()[2] != width || rows.dtype() != from.dtype())) {
    fail("KvCache", "tokens that continue a cache of " + rows.shape().text(),
         "got " + std::to_string(batch) + " batch entries of width " + std::to_string(width));
  }
  const auto copy = [&](const Tensor& source, std::int64_t tokens, std::int64_t source_tokens,
                        std::int64_t source_column, std::int64_t source_width, Tensor& target, std::int64_t at) {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        std::memcpy(
            static_cast<char*>(target.raw()) + ((b * target.shape()[1] + at + t) * width) * element,
            static_cast<const char*>(source.raw()) + ((b * source_tokens + t) * source_width + source_column) * element,
            std::size_t(width * element));
      }
    }
  };
  if (length + n > capacity) {  // doubles, so a token costs O(1) copies
    const auto larger = std::int64_t(std::bit_ceil(std::uint64_t(std::max<std::int64_t>(16, length + n))));
    Tensor grown = Tensor::empty({batch, larger, width}, from.dtype());
    if (length > 0) copy(rows, length, capacity, 0, width, grown, 0);
    rows = grown;
  }
  copy(from, n, n, column, from_width, rows, length);
  length += n;
}

void KvCache::select(const Ids& batch_entries) {
  if (rows.defined()) rows = take_rows(rows, batch_entries).detach();
}

}  // namespace attune::nn

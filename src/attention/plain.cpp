// The forward of the plain path: scaled dot, softmax, any mask. No stage is called; the kernels do whole blocks, and on
// request tell the numbers of each row that statistics are made of.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "attention/call.hpp"
#include "attention/mask_cut.hpp"
#include "attention/plain_residues.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"
#include "kernels/plain_attention.hpp"

namespace attune::engine {
namespace {

/// What the kernel tells of each row, [B, H, Tq] each: in the caller's arrays where it has some.
template <class T>
struct RowNumbers {
  T *largest, *smallest, *entropy, *variance, *largest_prob;
  std::vector<T> own;

  RowNumbers(std::size_t rows, const ForwardResult<T>& result) {
    RowStatistics<T>* out = result.statistics;
    own.resize((out ? 0 : 4 * rows) + (result.entropy ? 0 : rows));
    T* free = own.data();
    const auto place = [&](T* theirs) { return theirs ? theirs : std::exchange(free, free + rows); };
    largest = place(out ? out->largest_logit.data() : nullptr);
    smallest = place(out ? out->smallest_score.data() : nullptr);
    variance = place(out ? out->variance.data() : nullptr);
    largest_prob = place(out ? out->largest_prob.data() : nullptr);
    entropy = place(result.entropy);
  }
};

/// How many keys each row sees, and no entropy below 0. False if a row that sees a key has a number that is not finite.
template <class T>
bool describe_rows(const Problem<T>& p, const PlainMask& mask, RowNumbers<T>& numbers, const ForwardResult<T>& result) {
  const AttendShape& s = p.shape;
  std::vector<int> visible(std::size_t(s.num_queries));  // the same for all heads, unless another mask says so
  std::size_t row = 0;
  for (int b = 0; b < s.batch_size; ++b) {
    const int keys = mask.visible_keys(s, b);
    for (int q = 0; q < s.num_queries; ++q) {
      const Edges e = edges(mask.window, q + p.offset[std::size_t(b)], 1, keys);
      const int end = e.causal ? std::clamp(e.position + 1, 0, keys) : keys;
      visible[std::size_t(q)] = e.span > 0 ? std::max(0, end - std::max(0, e.position - e.span + 1)) : end;
    }
    for (int h = 0; h < s.num_heads; ++h, row += std::size_t(s.num_queries)) {
      if (mask.other) count_visible(*mask.other, s, b, h, p.offset[std::size_t(b)], visible.data());
      T *entropy = numbers.entropy + row, *variance = numbers.variance + row;
      const T* largest = numbers.largest + row;
      T wrong = 0;  // NaN once a number is not finite
      for (int q = 0; q < s.num_queries; ++q) {
        wrong += visible[std::size_t(q)] > 0 ? T(0) * (largest[q] + entropy[q] + variance[q]) : T(0);
        // Where one key has it all, rounding may leave less than none.
        entropy[q] = entropy[q] < 0 ? T(0) : entropy[q];
        variance[q] = variance[q] < 0 ? T(0) : variance[q];
      }
      if (wrong != 0) return false;
      if (result.statistics) {
        std::copy(visible.begin(), visible.end(), result.statistics->visible.begin() + std::ptrdiff_t(row));
      }
    }
  }
  if (result.statistics) result.statistics->largest_score = result.statistics->largest_logit;
  return true;
}

template <class T>
void forward_range(const Problem<T>& p, const PlainMask& mask, T scale, const ForwardResult<T>& result) {
  const AttendShape& s = p.shape;
  const bool causal = mask.window.left >= 0 || mask.window.right >= 0;
  const int block = kernels::plain_block_queries<T>(s.key_dim, s.value_dim, causal);
  const int blocks = (s.num_queries + block - 1) / block;
  const std::size_t bytes = kernels::plain_forward_workspace<T>(s.key_dim, s.value_dim);
  const bool wanted = result.statistics || result.entropy;
  std::optional<RowNumbers<T>> rows;
  if (wanted) rows.emplace(std::size_t(s.batch_size) * s.num_heads * s.num_queries, result);
  // Decoding: the heads that share a key head stand as rows of one call, so that keys and values are read once.
  const bool shared = s.num_queries == 1 && s.group() > 1 && s.group() <= block && !p.drops() && !mask.other;
  const int heads = shared ? s.num_kv_heads : s.num_heads;
  // One head's blocks side by side: threads share its keys in cache. The longest block of a causal head first.
  struct Place {
    int query, head, batch;
  };
  const auto place = [&](std::int64_t t) {
    return Place{(blocks - 1 - int(t % blocks)) * block, int(t / blocks % heads) * (s.num_heads / heads),
                 int(t / blocks / heads)};
  };
  const std::int64_t tasks = std::int64_t(s.batch_size) * heads * blocks, threads = num_threads();
  parallel_for(tasks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const auto [q, h, b] = place(t);
    const int n = shared ? s.group() : std::min(block, s.num_queries - q), kv = h / s.group();
    int keys = mask.visible_keys(s, b), first_key = 0;
    Edges edge = edges(mask.window, q + p.offset[std::size_t(b)], shared ? 1 : n, keys);
    if (s.num_queries == 1 && !p.drops()) {  // one row, or several at one place: the keys that it sees, and no edges
      if (edge.causal) keys = std::clamp(edge.position + 1, 0, keys);
      if (edge.span > 0) first_key = std::clamp(edge.position - edge.span + 1, 0, keys);
      keys -= first_key;
      edge = {};
    }
    const Matrix<const T> query = p.query.matrix(b, h, q, n, s.query_dim),
                          key = p.key.matrix(b, kv, first_key, keys, s.key_dim),
                          value = p.value.matrix(b, kv, first_key, keys, s.value_dim);
    const Matrix<T> out = result.out.matrix(b, h, q, n, s.value_dim);
    kernels::PlainForward<T> call;
    call.query = query.data, call.query_stride = shared ? p.query.head : query.stride;
    call.key = key.data, call.key_stride = key.stride;
    call.value = value.data, call.value_stride = value.stride;
    call.out = out.data, call.out_stride = shared ? result.out.head : out.stride;
    if (result.lse) call.lse = result.lse + (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries + q;
    call.queries = n, call.num_keys = keys, call.head_dim = s.key_dim, call.value_dim = s.value_dim;
    call.scale = scale, call.causal = edge.causal, call.position = edge.position, call.span = edge.span;
    thread_local MaskCut cut;
    if (mask.other) {
      cut.bind(*mask.other, s, b, h, q, p.offset[std::size_t(b)]);
      call.cut = &cut;
    }
    call.dropout = {p.keep_threshold, p.seed, p.first_batch + b, h, q};
    // The keys of the next head are fetched during the last block before it; where a causal head has few blocks, during
    // its first, since the last is too short for that (256 heads of 128 x 128 x 32: 4 to 8 % of the time).
    const bool early = causal && blocks > 1 && blocks <= 4;
    const std::int64_t likely = t + threads;
    const std::int64_t other = t % blocks > 0 ? tasks : t + std::max<std::int64_t>(1, threads / blocks) * blocks;
    if (likely < tasks && !shared) {
      const Place next = place(likely);
      call.next_query = p.query.matrix(next.batch, next.head, next.query, 1, 1).data;
      call.next_queries = std::min(block, s.num_queries - next.query);
    }
    if (const std::int64_t reader = early ? other : likely; reader < tasks && !shared) {
      const Place next = place(reader);
      if (const int next_kv = next.head / s.group(); next_kv != kv || next.batch != b) {
        call.next_key = p.key.matrix(next.batch, next_kv, 0, 1, 1).data;
        call.next_value = p.value.matrix(next.batch, next_kv, 0, 1, 1).data;
        call.next_keys = mask.visible_keys(s, next.batch);
      }
    }
    if (wanted) {
      const std::ptrdiff_t row = (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries + q;
      call.largest = rows->largest + row, call.smallest = rows->smallest + row;
      call.entropy = rows->entropy + row, call.variance = rows->variance + row;
      call.largest_prob = rows->largest_prob + row;
    }
    kernels::plain_forward(call, Workspace(bytes).begin());
  });
  if (wanted && !describe_rows(p, mask, *rows, result)) {
    // A visible logit is not finite: counting such needs the logits themselves.
    forward(p, ForwardResult<T>{.entropy = result.entropy, .statistics = result.statistics});
  }
}

}  // namespace

template <class T>
void plain_forward(const Problem<T>& p, const AttendOptions& o, const ForwardResult<T>& result) {
  const PlainMask mask = plain_mask(o.mask);
  const T scale = T(o.score.as<ScaledDot>()->scale_of(p.shape));
  if (mask.dilation == 1) return forward_range(p, mask, scale, result);
  each_residue(p, mask, [&](const Residue<T>& r) {
    ResidueRows<T> rows(r);
    RowStatistics<T> statistics;
    ForwardResult<T> part{.out = r.queries(result.out)};
    if (result.lse) part.lse = rows.room();
    if (result.entropy) part.entropy = rows.room();
    if (result.statistics) {
      statistics.resize(rows.size());
      part.statistics = &statistics;
    }
    forward_range(r.problem, r.mask, scale, part);
    rows.give(part.lse, result.lse);
    rows.give(part.entropy, result.entropy);
    if (!result.statistics) return;
    RowStatistics<T>& all = *result.statistics;
    rows.give(statistics.largest_score.data(), all.largest_score.data());
    rows.give(statistics.smallest_score.data(), all.smallest_score.data());
    rows.give(statistics.largest_logit.data(), all.largest_logit.data());
    rows.give(statistics.largest_prob.data(), all.largest_prob.data());
    rows.give(statistics.variance.data(), all.variance.data());
    rows.give(statistics.sink_mass.data(), all.sink_mass.data());
    rows.give(statistics.visible.data(), all.visible.data());
    rows.give(statistics.non_finite.data(), all.non_finite.data());
  });
}

template void plain_forward<float>(const Problem<float>&, const AttendOptions&, const ForwardResult<float>&);
template void plain_forward<double>(const Problem<double>&, const AttendOptions&, const ForwardResult<double>&);

}  // namespace attune::engine

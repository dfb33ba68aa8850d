// The plain path: scaled dot, softmax; full, causal or a window, with or without padding. No stage is called; the
// kernels do whole blocks, and on request tell the numbers of each row that statistics are made of.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "attention/call.hpp"
#include "attention/plain_mask.hpp"
#include "attention/workspace.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

namespace attune::engine {
namespace {

int narrower(int a, int b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

/// The window as the kernels take it, for rows at p, p + 1, ...: row i sees key j iff p - left + i <= j <= p + right +
/// i.
struct Edges {
  bool causal;
  int position, span;
};
Edges edges(const Window& w, int p, int num_queries, int num_keys) {
  // Bounds past the ends say nothing; drawn in to where they begin to speak, they cannot overflow.
  const std::int64_t low = w.left < 0 ? -std::int64_t(num_queries) : std::int64_t(p) - w.left;
  std::int64_t high = w.right < 0 ? std::int64_t(num_keys) : std::int64_t(p) + w.right;
  if (low <= -std::int64_t(num_queries)) return {w.right >= 0, int(std::min<std::int64_t>(high, num_keys)), 0};
  high = std::max(low, std::min<std::int64_t>(high, num_keys));
  return {true, int(high), int(high - low + 1)};
}

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
  std::vector<int> visible(std::size_t(s.num_queries));  // the same for all heads
  std::size_t row = 0;
  for (int b = 0; b < s.batch_size; ++b) {
    const int keys = mask.visible_keys(s, b);
    for (int q = 0; q < s.num_queries; ++q) {
      const Edges e = edges(mask.window, q + p.offset[std::size_t(b)], 1, keys);
      const int end = e.causal ? std::clamp(e.position + 1, 0, keys) : keys;
      visible[std::size_t(q)] = e.span > 0 ? std::max(0, end - std::max(0, e.position - e.span + 1)) : end;
    }
    for (int h = 0; h < s.num_heads; ++h, row += std::size_t(s.num_queries)) {
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

}  // namespace

PlainMask plain_mask(const AnyMask& mask) {
  if (mask.get() == nullptr) return {};
  if (mask.as<Causal>()) return {.window = Causal::window};
  if (const auto* padding = mask.as<Padding>()) return {.padding = padding};
  // A window without bounds is left to the stages: it says nothing, except to tests that compare both paths.
  if (const auto* window = mask.as<Window>())
    return {.fits = window->left >= 0 || window->right >= 0, .window = *window};
  if (const auto* both = mask.as<Both>()) {
    const PlainMask a = plain_mask(both->a), b = plain_mask(both->b);
    if (a.fits && b.fits && !(a.padding && b.padding)) {
      return {.window = {narrower(a.window.left, b.window.left), narrower(a.window.right, b.window.right)},
              .padding = a.padding ? a.padding : b.padding};
    }
  }
  return {.fits = false};
}

std::string why_not_plain(const AttendOptions& o) {
  if (o.position) return "position " + std::string(o.position.name()) + " maps queries and keys";
  if (!o.score.as<ScaledDot>()) return "score " + std::string(o.score.name()) + " is not scaled_dot";
  if (!o.bias.empty()) return "bias " + std::string(o.bias[0].name()) + " changes logits";
  if (!plain_mask(o.mask).fits) return "mask " + std::string(o.mask.name()) + " is neither a window nor padding";
  if (!o.normalizer.as<Softmax>()) return "normalizer " + std::string(o.normalizer.name()) + " is not softmax";
  return "";
}
bool is_plain(const AttendOptions& o) { return why_not_plain(o).empty(); }

template <class T>
void plain_forward(const Problem<T>& p, const AttendOptions& o, const ForwardResult<T>& result) {
  const AttendShape& s = p.shape;
  const PlainMask mask = plain_mask(o.mask);
  const bool causal = mask.window.left >= 0 || mask.window.right >= 0;
  const T scale = T(o.score.as<ScaledDot>()->scale_of(s));
  const int block = kernels::plain_block_queries<T>(s.key_dim, s.value_dim, causal);
  const int blocks = (s.num_queries + block - 1) / block;
  const std::size_t bytes = kernels::plain_forward_workspace<T>(s.key_dim, s.value_dim);
  const bool wanted = result.statistics || result.entropy;
  std::optional<RowNumbers<T>> rows;
  if (wanted) rows.emplace(std::size_t(s.batch_size) * s.num_heads * s.num_queries, result);
  // Decoding: the heads that share a key head stand as rows of one call, so that keys and values are read once.
  const bool shared = s.num_queries == 1 && s.group() > 1 && s.group() <= block && !p.drops();
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

namespace {

/// The backward's tasks: the keys of every (batch, key head) in parts. A pool of threads finds work even where there
/// are few heads, since the parts of one pass over its queries one block behind the other (kernels::Turn); parts below
/// a super-block are for those, because they cost up to a hundredth of the time. The cut depends on the problem alone.
struct BackwardParts {
  static constexpr int kTasks = 8, kLeastKeys = 256;
  int keys, count;  // of each part; parts of a key head
  BackwardParts(const kernels::TilePlan& plan, const AttendShape& s) : keys(plan.super_keys) {
    const auto tasks = [&] { return std::int64_t(s.batch_size) * s.num_kv_heads * number(s.num_keys); };
    while (tasks() < kTasks && keys >= 2 * kLeastKeys) keys = (keys / 2 + plan.keys - 1) / plan.keys * plan.keys;
    count = number(s.num_keys);
  }
  int number(int n) const { return std::max(1, int((std::int64_t(n) + keys - 1) / keys)); }
};

/// Frees those who wait for a part, whichever way it ends.
struct Leaving {
  const kernels::Turn& turn;
  ~Leaving() { turn.leave(); }
};

}  // namespace

template <class T>
std::int64_t plain_backward_bytes(const AttendShape& s, bool causal) {
  const BackwardParts parts(kernels::backward_plan<T>(s.key_dim, s.value_dim, causal), s);
  if (parts.count == 1) return 0;
  return std::int64_t(s.batch_size) *
         (std::int64_t(s.num_heads) * s.num_queries * std::int64_t(sizeof(T)) +
          std::int64_t(s.num_kv_heads) * parts.count * std::int64_t(sizeof(kernels::Passed)));
}

template <class T>
void plain_backward(const Problem<T>& p, const AttendOptions& o, const BackwardInputs<T>& in,
                    const BackwardResult<T>& result) {
  const AttendShape& s = p.shape;
  const PlainMask mask = plain_mask(o.mask);
  const bool causal = mask.window.left >= 0 || mask.window.right >= 0;
  const T scale = T(o.score.as<ScaledDot>()->scale_of(s));
  const std::size_t bytes = kernels::plain_backward_workspace<T>(s.num_queries, s.key_dim, s.value_dim);
  const kernels::TilePlan plan = kernels::backward_plan<T>(s.key_dim, s.value_dim, causal);
  const BackwardParts parts(plan, s);
  const std::int64_t heads = std::int64_t(s.batch_size) * s.num_kv_heads, tasks = heads * parts.count,
                     threads = num_threads();
  std::vector<T> deltas(parts.count > 1 ? std::size_t(s.batch_size) * s.num_heads * s.num_queries : 0);
  std::vector<kernels::Passed> passed(parts.count > 1 ? std::size_t(tasks) : 0);
  // All first parts, then all second ones: no part waits where there are more heads than threads.
  struct Place {
    int batch, kv, head, first_key;
  };
  const auto place = [&](std::int64_t t) {
    const int kv = int(t % s.num_kv_heads);
    return Place{int(t / s.num_kv_heads % s.batch_size), kv, kv * s.group(), int(t / heads) * parts.keys};
  };
  parallel_for(tasks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const auto [b, kv, h, first_key] = place(t);
    const std::ptrdiff_t row = (std::ptrdiff_t(b) * s.num_heads + h) * s.num_queries;
    kernels::PlainBackward<T> call;
    if (parts.count > 1) {
      call.deltas = deltas.data() + row;
      call.first_key = first_key, call.end_key = first_key + parts.keys;
      call.turn = {.before = t < heads ? nullptr : &passed[std::size_t(t - heads)], .own = &passed[std::size_t(t)]};
    }
    const Leaving leaving{call.turn};
    call.query = p.query.matrix(b, h, 0, 1, 1).data, call.query_stride = p.query.row, call.query_head = p.query.head;
    call.key = p.key.matrix(b, kv, 0, 1, 1).data, call.key_stride = p.key.row;
    call.value = p.value.matrix(b, kv, 0, 1, 1).data, call.value_stride = p.value.row;
    call.out = in.out.matrix(b, h, 0, 1, 1).data, call.out_stride = in.out.row, call.out_head = in.out.head;
    call.dout = in.dout.matrix(b, h, 0, 1, 1).data, call.dout_stride = in.dout.row, call.dout_head = in.dout.head;
    call.lse = in.lse + row, call.lse_head = s.num_queries;
    if (in.dlse) call.dlse = in.dlse + row;
    if (result.query.data) {
      call.dquery = result.query.matrix(b, h, 0, 1, 1).data;
      call.dquery_stride = result.query.row, call.dquery_head = result.query.head;
    }
    if (result.key.data) call.dkey = result.key.matrix(b, kv, 0, 1, 1).data, call.dkey_stride = result.key.row;
    if (result.value.data)
      call.dvalue = result.value.matrix(b, kv, 0, 1, 1).data, call.dvalue_stride = result.value.row;
    call.group = s.group(), call.num_queries = s.num_queries, call.num_keys = mask.visible_keys(s, b);
    call.head_dim = s.key_dim, call.value_dim = s.value_dim, call.scale = scale;
    const Edges edge = edges(mask.window, p.offset[std::size_t(b)], s.num_queries, call.num_keys);
    call.causal = edge.causal, call.position = edge.position, call.span = edge.span;
    call.dropout = {p.keep_threshold, p.seed, p.first_batch + b, h, 0};
    if (const std::int64_t likely = t + threads; likely < tasks) {
      const Place next = place(likely);
      const int keys = mask.visible_keys(s, next.batch) - next.first_key;
      const Edges ahead = edges(mask.window, p.offset[std::size_t(next.batch)], s.num_queries, keys + next.first_key);
      const int query = ahead.causal ? std::max(0, next.first_key - ahead.position) / plan.queries * plan.queries : 0;
      call.next.queries = std::min(s.num_queries - query, plan.queries);
      call.next.keys = std::min(keys, plan.keys);
      if (call.next.queries > 0 && call.next.keys > 0) {
        const auto rows = [](const auto& x, int batch, int head, int first) {
          return x.data ? x.matrix(batch, head, first, 1, 1).data : nullptr;
        };
        call.next.query = rows(p.query, next.batch, next.head, query);
        call.next.dout = rows(in.dout, next.batch, next.head, query);
        if (next.first_key == 0) call.next.out = rows(in.out, next.batch, next.head, query);
        call.next.dquery = rows(result.query, next.batch, next.head, query);
        call.next.key = rows(p.key, next.batch, next.kv, next.first_key);
        call.next.value = rows(p.value, next.batch, next.kv, next.first_key);
        call.next.dkey = rows(result.key, next.batch, next.kv, next.first_key);
        call.next.dvalue = rows(result.value, next.batch, next.kv, next.first_key);
      }
    }
    kernels::plain_backward(call, Workspace(bytes).begin());
  });
}

template void plain_forward<float>(const Problem<float>&, const AttendOptions&, const ForwardResult<float>&);
template void plain_forward<double>(const Problem<double>&, const AttendOptions&, const ForwardResult<double>&);
template std::int64_t plain_backward_bytes<float>(const AttendShape&, bool);
template std::int64_t plain_backward_bytes<double>(const AttendShape&, bool);
template void plain_backward<float>(const Problem<float>&, const AttendOptions&, const BackwardInputs<float>&,
                                    const BackwardResult<float>&);
template void plain_backward<double>(const Problem<double>&, const AttendOptions&, const BackwardInputs<double>&,
                                     const BackwardResult<double>&);

}  // namespace attune::engine

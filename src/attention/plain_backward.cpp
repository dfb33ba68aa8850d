// The backward of the plain path.
#include <algorithm>
#include <vector>

#include "attention/call.hpp"
#include "attention/mask_cut.hpp"
#include "attention/plain_residues.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"
#include "kernels/plain_attention.hpp"
#include "kernels/tile_plan.hpp"

namespace attune::engine {
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

namespace {

template <class T>
void backward_range(const Problem<T>& p, const PlainMask& mask, T scale, const BackwardInputs<T>& in,
                    const BackwardResult<T>& result) {
  const AttendShape& s = p.shape;
  const bool causal = mask.window.left >= 0 || mask.window.right >= 0;
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
    thread_local MaskCut cut;
    if (mask.other) {
      cut.bind(*mask.other, s, b, h, 0, p.offset[std::size_t(b)]);
      call.cut = &cut;
    }
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

}  // namespace

template <class T>
void plain_backward(const Problem<T>& p, const AttendOptions& o, const BackwardInputs<T>& in,
                    const BackwardResult<T>& result) {
  const PlainMask mask = plain_mask(o.mask);
  const T scale = T(o.score.as<ScaledDot>()->scale_of(p.shape));
  if (mask.dilation == 1) return backward_range(p, mask, scale, in, result);
  each_residue(p, mask, [&](const Residue<T>& r) {
    ResidueRows<T> rows(r);
    const BackwardInputs<T> part{
        .out = r.queries(in.out), .dout = r.queries(in.dout), .lse = rows.take(in.lse), .dlse = rows.take(in.dlse)};
    backward_range(r.problem, r.mask, scale, part,
                   {.query = r.queries(result.query), .key = r.keys(result.key), .value = r.keys(result.value)});
  });
}

template std::int64_t plain_backward_bytes<float>(const AttendShape&, bool);
template std::int64_t plain_backward_bytes<double>(const AttendShape&, bool);
template void plain_backward<float>(const Problem<float>&, const AttendOptions&, const BackwardInputs<float>&,
                                    const BackwardResult<float>&);
template void plain_backward<double>(const Problem<double>&, const AttendOptions&, const BackwardInputs<double>&,
                                     const BackwardResult<double>&);

}  // namespace attune::engine

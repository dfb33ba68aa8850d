// linear_attend_forward over key heads: each is one task that walks its chunks in order.
#include <algorithm>

#include "attention/linear/head.hpp"
#include "attention/linear/passes.hpp"
#include "attention/workspace.hpp"
#include "attune/base/parallel.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

/// Scales or divides what the loaded queries read, and puts it where the caller wants it.
template <class T>
void store_read(const LinearCall<T>& call, const Chunk<T>& chunk, T* read, const LinearAttendOutputs& out, int b, int g,
                int first) {
  const int columns = call.columns(), width = call.shape.value_dim;
  for (int j = 0; j < call.group; ++j) {
    const int h = g * call.group + j;
    T* rows = read + std::ptrdiff_t(j) * call.chunk * columns;
    T* normalizer = nullptr;
    if (out.normalizer) {
      normalizer = static_cast<T*>(out.normalizer.data) +
                   (std::int64_t(b) * call.shape.num_heads + h) * call.shape.num_queries + first;
    }
    for (int t = 0; t < chunk.tokens; ++t) {
      T* row = rows + std::ptrdiff_t(t) * columns;
      if (call.options->normalize) {
        const T sum = row[width];
        if (normalizer) normalizer[t] = sum;
        // By selection: a row that meets no positive feature has no weights to share out.
        for (int w = 0; w < width; ++w) row[w] = sum == 0 ? T(0) : row[w] / sum;
      } else {
        for (int w = 0; w < width; ++w) row[w] *= call.scale;
      }
    }
    if (out.out) store_rows(rows, columns, chunk.tokens, width, out.out, b, h, first);
  }
}

template <class T>
struct ForwardMemory {
  T *state, *read;  // [F][W], [group][chunk][W]
  ForwardMemory(const LinearCall<T>& call, Arena& arena)
      : state(arena.take<T>(call.state_size())),
        read(arena.take<T>(std::int64_t(call.group) * call.chunk * call.columns())) {}
};

}  // namespace

template <class T>
void linear_forward(const LinearAttendShape& s, const LinearAttendInputs& in, const LinearAttendOutputs& out,
                    const LinearAttendOptions& options) {
  const LinearPlan<T> plan(s, in, options);
  const LinearCall<T>& call = plan.call;
  const bool reads = out.out || out.normalizer;
  Arena count;
  { const ForwardMemory<T> memory(call, count); }
  { const LinearHead<T> head(plan, count, false); }
  parallel_for(std::int64_t(s.batch_size) * s.num_kv_heads, [&](std::int64_t task) {
    const kernels::FlushDenormals here;
    const int b = int(task / s.num_kv_heads), g = int(task % s.num_kv_heads), keys = call.keys(b);
    Workspace workspace(count.used());
    Arena arena(workspace.begin());
    const ForwardMemory<T> memory(call, arena);
    LinearHead<T> head(plan, arena, false);
    head.enter(b, g);
    T* state = out.state ? static_cast<T*>(out.state.data) + task * call.state_size() : memory.state;
    head.begin(state);
    for (int first = 0; first < keys; first += call.chunk) {
      const int n = std::min(call.chunk, keys - first);
      head.load_writes(first, n);
      if (options.causal && reads) head.load_reads(first, n);
      head.fetch_next(first + n, std::min(call.chunk, keys - first - n), options.causal && reads);
      head.walk(state, memory.read);
      if (options.causal && reads) store_read(call, head.chunk(), memory.read, out, b, g, first);
    }
    for (int first = options.causal ? keys : 0; reads && first < s.num_queries; first += call.chunk) {
      head.load_reads(first, std::min(call.chunk, s.num_queries - first));
      head.read(state, memory.read);
      store_read(call, head.chunk(), memory.read, out, b, g, first);
    }
  });
}

template void linear_forward<float>(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendOutputs&,
                                    const LinearAttendOptions&);
template void linear_forward<double>(const LinearAttendShape&, const LinearAttendInputs&, const LinearAttendOutputs&,
                                     const LinearAttendOptions&);

}  // namespace attune::engine

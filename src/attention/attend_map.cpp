// Logits and probabilities of chosen heads and rows, tile by tile: the forward's logits, then the normalizer's backward
// with a gradient of 0, which turns logits into the probabilities that the row's statistic says.
#include "attention/call.hpp"
#include "attention/task.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {

template <class T>
void map_tiles(const Problem<T>& p, const MapOptions& m, const T* lse, int heads, int queries, T* map) {
  const AttendShape& s = p.shape;
  const KeyRows<T> keys = map_keys(p);
  const bool hides = m.exposed == Exposed::masked || m.exposed == Exposed::probs;
  const std::ptrdiff_t slot_size = p.slot_size();
  const int blocks = (queries + kLanes - 1) / kLanes;
  parallel_for(std::int64_t(s.batch_size) * heads * blocks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    const int block_index = int(t % blocks), head = int(t / blocks % heads), b = int(t / blocks / heads);
    thread_local Task<T> k;
    k.reset(p, true);
    std::vector<T> unused(static_cast<std::size_t>(slot_size));  // where normalizers add a gradient of 0
    k.bind(b, m.first_head + head, unused.data());
    Area block = k.head;
    block.query = m.first_query + block_index * kLanes;
    block.queries = std::min(kLanes, m.first_query + queries - block.query);
    typename Task<T>::QueryRows rows;
    k.map_queries(block, rows);
    const Matrix<const T> key_rows = keys.out(b, block.kv_head);
    Rows<T> r = k.row_numbers(block.queries, false);
    if (m.exposed == Exposed::probs) {
      const std::size_t row = (std::size_t(b) * s.num_heads + block.head) * s.num_queries + block.query;
      for (int i = 0; i < block.queries; ++i) r.stat[i] = lse[row + i] == kHidden<T> ? T(0) : lse[row + i];
    }
    T* out = map + ((std::ptrdiff_t(b) * heads + head) * queries + (block.query - m.first_query)) * s.num_keys;
    const int tiles = (s.num_keys + p.tile_keys - 1) / p.tile_keys;
    const bool back = p.normalizer.stage->walk() == Walk::last_key_first;
    for (int index = 0; index < tiles; ++index) {
      Area a = block;
      a.key = (back ? tiles - 1 - index : index) * p.tile_keys;
      a.keys = std::min(p.tile_keys, s.num_keys - a.key);
      Tile<T> x{k.x.data(), kLanes, a}, dp{k.dp.data(), kLanes, a};
      k.score({{rows.lanes.data(), rows.out.cols, a.queries, kLanes}, {}, key_rows.part(a.key, a.keys)}, x);
      if (m.exposed != Exposed::scores) k.biases(x, m.exposed == Exposed::logits ? m.biases : -1);
      if (hides) {
        const Cover c = k.look(a);
        if (c == Cover::none) std::fill(k.bits.begin(), k.bits.end(), 0);
        if (c != Cover::full) hide_tile(x, k.bits.data());
      }
      if (m.exposed == Exposed::probs) {
        std::fill(k.dp.begin(), k.dp.end(), T(0));
        auto c = k.normalizer_call();
        p.normalizer.stage->backward(x, dp, r, c);
      }
      for (int i = 0; i < a.queries; ++i) {
        for (int j = 0; j < a.keys; ++j) out[std::ptrdiff_t(i) * s.num_keys + a.key + j] = x[j][i];
      }
    }
  });
}
template void map_tiles<float>(const Problem<float>&, const MapOptions&, const float*, int, int, float*);
template void map_tiles<double>(const Problem<double>&, const MapOptions&, const double*, int, int, double*);

}  // namespace attune::engine

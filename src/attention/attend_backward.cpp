// The tiles of the backward pass. One task is one (batch entry, key head): it runs the query heads of the group in
// order, each over blocks of at most 64 queries, and recomputes the logits tile by tile:
//
//     logits, hide                          as in the forward
//     dp = value dout^T, dropped            [keys][queries]
//     normalizer.backward: logits -> probs, dp -> dlogits
//     dvalue += dropped probs . dout
//     biases in reverse, score.backward     dlogits -> dfeatures
//
// After the walk, map_backward of score and then of position turns dfeatures into dquery and dkey. Only the arrays of
// the inputs, one slot per (batch, head) for parameters, and tiles are held: memory is linear in the sequence.
//
// Keys are taken in super-blocks, whose rows and gradients stay in the second-level cache while all blocks of queries
// pass. Where there are several, what a block knows of its rows and its dfeatures wait in memory between them.
#include "attention/task.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

template <class T>
class BackwardTask {
 public:
  /// Begins another call; a thread keeps one task.
  void reset(const Problem<T>& problem, const BackwardInputs<T>& inputs, const BackwardResult<T>& result) {
    p_ = &problem;
    s_ = &problem.shape;
    in_ = &inputs;
    result_ = &result;
    k_.reset(problem, true);
  }

  /// first_slot: gradient slots of the group's heads, slot_size numbers each.
  void run(const KeyRows<T>& keys, int b, int kv, T* first_slot, std::ptrdiff_t slot_size) {
    key_rows_ = keys.out(b, kv);
    values_ = p_->value.matrix(b, kv, 0, s_->num_keys, s_->value_dim);
    const Matrix<T> dkey = wanted(result_->key, b, kv, s_->num_keys, s_->key_dim, dkey_memory_);
    // Keys that no stage maps take their gradient where it belongs; others in memory of their own, mapped back at the
    // end.
    const bool mapped = keys.mid_width || keys.out_width;
    if (mapped)
      dkey_rows_ = zeroed(dfeature_memory_, s_->num_keys, key_rows_.cols);
    else
      dkey_rows_ = dkey;
    if (result_->value.data) dvalue_ = result_->value.matrix(b, kv, 0, s_->num_keys, s_->value_dim);
    used_keys_.assign(std::size_t(s_->num_keys), 0);
    super_keys_ = super_keys<T>(key_rows_.cols, *s_);

    for (int h = kv * s_->group(); h < (kv + 1) * s_->group(); ++h) {
      k_.bind(b, h, first_slot + (h - kv * s_->group()) * slot_size);
      run_head();
    }
    if (!mapped) return;
    k_.bind(b, kv * s_->group(), first_slot);
    Area area = k_.head;
    area.key = 0;
    area.keys = s_->num_keys;
    map_backward(Side::key, keys.in(b, kv), keys.mid(b, kv), keys.mid_width > 0, keys.out_width > 0, dkey_rows_, area,
                 dkey, used_keys_);
  }

 private:
  /// What is known of a block of queries from its first tile to its last.
  struct Held {
    Numbers<T> rows;         // row numbers [kRowNumbers][kLanes]
    Numbers<T> dlanes;       // gradient of the features [F][kLanes]
    bool in_rows = false;    // dlanes is [queries][F]
    std::uint64_t seen = 0;  // rows that see a key
  };

  /// All blocks of the bound head: one after the other where one super-block holds all keys, else once a super-block.
  void run_head() {
    const int keys = s_->num_keys, tile = p_->tile_queries, blocks = (s_->num_queries + tile - 1) / tile;
    const int supers = (keys + super_keys_ - 1) / super_keys_;
    const Normalizer<T>& normalizer = *p_->normalizer.stage;
    if (supers <= 1) {
      if (held_.empty()) held_.resize(1);
      for (int q = 0; q < s_->num_queries; q += tile) {
        open(q, held_[0]);
        begin();
        if (normalizer.sweeps()) walk({0, keys}, true);
        begin_backward();
        walk({0, keys}, false);
        close();
      }
      return;
    }
    if (held_.size() < std::size_t(blocks)) held_.resize(std::size_t(blocks));
    const bool back = normalizer.walk() == Walk::last_key_first;
    bool begun = false;
    for (const bool sweep : {true, false}) {
      if (sweep && !normalizer.sweeps()) continue;
      for (int n = 0; n < supers; ++n) {
        const int first = (back ? supers - 1 - n : n) * super_keys_;
        const Range range{first, std::min(keys, first + super_keys_)};
        for (int q = 0; q < s_->num_queries; q += tile) {
          const bool starts = n == 0, ends = n + 1 == supers && !sweep;
          const Range seen = k_.visible_keys(block_at(q), range);
          if (!starts && !ends && seen.end <= seen.begin) continue;
          open(q, held_[std::size_t(q / tile)]);
          if (starts && !begun) begin();
          if (starts && !sweep) begin_backward();
          walk(range, sweep);
          if (ends) close();
        }
        begun = true;
      }
    }
  }

  Area block_at(int q) const {
    Area block = k_.head;
    block.query = q;
    block.queries = std::min(p_->tile_queries, s_->num_queries - q);
    return block;
  }
  std::ptrdiff_t first_row() const {
    return (std::ptrdiff_t(block_.batch) * s_->num_heads + block_.head) * s_->num_queries + block_.query;
  }

  /// Takes up the block of queries from q on.
  void open(int q, Held& held) {
    block_ = block_at(q);
    n_ = block_.queries;
    h_ = &held;
    k_.map_queries(block_, queries_);
    dout_ = in_->dout.matrix(block_.batch, block_.head, q, n_, s_->value_dim);
    dout_lanes_.resize(std::size_t(s_->value_dim) * kLanes);
    transpose_rows(dout_, dout_lanes_.data(), kLanes);
    find_bad_queries();
    held.rows.resize(Task<T>::kRowNumbers * kLanes);
    r_ = Task<T>::row_numbers(held.rows.data(), n_, false);
    if (in_->dentropy) {
      r_.entropy = held.rows.data() + 8 * kLanes;
      r_.dentropy = held.rows.data() + 9 * kLanes;
    }
  }

  /// Before the block's first tile. A row that sees no key keeps 0 everywhere, and so do its gradients.
  void begin() {
    h_->rows.assign(Task<T>::kRowNumbers * kLanes, T(0));
    h_->dlanes.assign(queries_.lanes.size(), T(0));
    h_->in_rows = std::is_same_v<T, float> && p_->normalizer.stage->has_support() && p_->score.stage->is_product();
    h_->seen = 0;
    const std::ptrdiff_t row = first_row();
    const Matrix<const T> out = in_->out.matrix(block_.batch, block_.head, block_.query, n_, s_->value_dim);
    T dot[kLanes];  // dout . out
    dot_rows(dout_, out, dot);
    T *entropy = &h_->rows[8 * kLanes], *dentropy = &h_->rows[9 * kLanes];
    for (int i = 0; i < n_; ++i) {
      if (in_->lse[row + i] == kHidden<T>) continue;
      r_.stat[i] = in_->lse[row + i];
      r_.delta[i] = dot[i];
      // lse is an output too: d lse / d logit = p, the same shape as -delta's.
      if (in_->dlse) r_.delta[i] -= in_->dlse[row + i];
      if (in_->dentropy) {
        entropy[i] = in_->entropy[row + i];
        dentropy[i] = in_->dentropy[row + i];
      }
    }
  }
  void begin_backward() {
    auto call = k_.normalizer_call();
    p_->normalizer.stage->begin_backward(r_, call);
  }

  void walk(Range keys, bool sweep) {
    k_.each_piece(block_, keys, [&](const Area& a, const std::uint64_t* bits, const auto& walked) {
      if (walked.begins) fetch(keys, walked);
      lane_ = a.query - block_.query;
      k_.see(a, lane_, bits, h_->seen, used_keys_.data());
      Rows<T> r = k_.part(r_, lane_, a.queries);
      piece(a, bits, r, sweep);
    });
  }

  /// During this tile's products: what later tiles read and write of large biases, and shares of the next block.
  void fetch(Range keys, const typename Task<T>::Walked& walked) {
    k_.ahead.clear();
    const int q = block_.query + p_->tile_queries;
    const Area next = q < s_->num_queries ? block_at(q) : Area{};
    k_.fetch_pairs(block_, next, keys, walked);
    const auto share = [&](const auto& rows, int width) {
      if (next.queries > 0) k_.fetch_share(rows.matrix(block_.batch, block_.head, q, next.queries, width), walked);
    };
    share(p_->query, s_->query_dim);
    share(in_->dout, s_->value_dim);
    share(in_->out, s_->value_dim);
    k_.ahead.spread((4 * p_->tile_keys + queries_.out.cols) / kFetchRows);  // five products
  }

  /// After the block's last tile.
  void close() {
    const Matrix<T> dfeatures = Task<T>::room(dquery_rows_, n_, queries_.out.cols);
    lanes_of_dqueries();
    transpose_lanes(h_->dlanes.data(), kLanes, dfeatures);
    const Matrix<T> dquery =
        wanted(result_->query, block_.batch, block_.head, n_, s_->query_dim, dquery_memory_, block_.query);
    used_queries_.resize(std::size_t(n_));
    for (int i = 0; i < n_; ++i) used_queries_[std::size_t(i)] = char(h_->seen >> i & 1);
    map_backward(Side::query, queries_.in, queries_.mid, queries_.mid_mapped, queries_.out_mapped, dfeatures, block_,
                 dquery, used_queries_);
  }

  /// One piece; bits: null if it is visible throughout.
  void piece(const Area& a, const std::uint64_t* bits, Rows<T>& r, bool sweep) {
    Tile<T> x{k_.x.data(), kLanes, a}, dp{k_.dp.data(), kLanes, a};
    k_.score(features(a, queries_.lanes, queries_.out, key_rows_.part(a.key, a.keys)), x);
    if (!k_.kept.empty() && !sweep) std::copy_n(k_.x.begin(), std::size_t(a.keys) * kLanes, k_.kept.begin());
    k_.biases(x);
    // dprobs = value dout^T
    const Matrix<const T> v = values_.part(a.key, a.keys);
    if (bits) hide_tile(x, bits);
    auto call = k_.normalizer_call();
    if (!few_gradients(v, x, dp, r, call)) {
      product(a.keys, a.queries, s_->value_dim, v.data, v.stride, 1, static_cast<const T*>(dout_lanes_.data() + lane_),
              kLanes, dp.data, kLanes, &k_.ahead);
    }
    if (bits) clear_tile(dp, bits);
    k_.drop(dp);
    if (sweep) {
      p_->normalizer.stage->sweep(x, dp, r, call);
      return;
    }
    p_->normalizer.stage->backward(x, dp, r, call);
    if (bits) {  // a row number may be NaN: 0 * NaN
      clear_tile(x, bits);
      clear_tile(dp, bits);
    }
    if (result_->value.data) add_dvalue(x, bits);
    for (std::size_t m = p_->bias.size(); m-- > 0;) {
      Tile<T> save{k_.saved[m].data(), kLanes, a};
      const bool saves = !k_.saved[m].empty();
      if (saves && bits) clear_tile(save, bits);
      auto c = k_.bias_call(m);
      p_->bias[m].stage->backward(saves ? &save : nullptr, dp, c);
    }
    score_backward(dp, bits);
  }

  /// dp where the normalizer says that few pairs have a weight: made for those alone, 0 elsewhere. False if that would
  /// not pay; then and otherwise the pairs are kept for the products to come.
  bool few_gradients(Matrix<const T> values, const Tile<T>& x, Tile<T>& dp, const Rows<T>& r, Call<T>& call) {
    few_ = {};
    if constexpr (std::is_same_v<T, float>) {
      if (!p_->normalizer.stage->has_support()) return false;
      const Area& a = x.area;
      pairs_.resize(std::size_t(p_->tile_keys));
      p_->normalizer.stage->support(x, r, call, pairs_.data());
      find_few(a);
      few_.gradients = few_.cells;
      if (!few_.cells) return false;
      kernels::product_at_pairs(pairs_.data(), a.keys, a.queries, values.cols, values.data, values.stride,
                                dout_lanes_.data() + lane_, kLanes, dp.data, dp.stride);
      return true;
    }
    return false;
  }
  void find_few(const Area& a) {
    const kernels::Sparsity s = kernels::sparsity(pairs_.data(), a.keys);
    few_.cells = few_cells(s, a.keys, a.queries);
    few_.pairs = few_pairs(s, a.keys, a.queries);
    few_.in_cells = few_in_cells(s);
  }

  /// dvalue [keys][Dv] += dropped probs . dout.
  void add_dvalue(Tile<T>& probs, const std::uint64_t* bits) {
    k_.drop(probs);
    const Area& a = probs.area;
    if (add_few_dvalue(probs)) return;
    const std::uint64_t bad = bad_queries_ >> lane_;
    const bool clean = !bits || !bad;
    const Matrix<const T> dout = dout_.part(lane_, a.queries), d = clean ? dout : clean_dout_.part(lane_, a.queries);
    add_product(a.keys, s_->value_dim, a.queries, static_cast<const T*>(probs.data), kLanes, 1, d.data, d.stride,
                dvalue_[a.key], dvalue_.stride, &k_.ahead);
    for (int j = 0; !clean && j < a.keys; ++j) {
      for (int i = 0; i < a.queries; ++i) {
        if (!(bits[j] & bad & std::uint64_t(1) << i)) continue;
        for (int c = 0; c < s_->value_dim; ++c) dvalue_[a.key + j][c] += probs[j][i] * dout[i][c];
      }
    }
  }

  /// The same over the pairs that have a weight, where that pays: equal bits.
  bool add_few_dvalue(const Tile<T>& probs) {
    if constexpr (std::is_same_v<T, float>) {
      if (bad_queries_ || !p_->normalizer.stage->is_sparse()) return false;  // 0 times dout may be NaN
      const Area& a = probs.area;
      if (!p_->normalizer.stage->has_support()) {
        pairs_.resize(std::size_t(p_->tile_keys));
        kernels::nonzero_pairs(probs.data, probs.stride, a.keys, a.queries, pairs_.data());
        find_few(a);
      }
      if (!few_.pairs) return false;
      kernels::add_pairs_to_rows(pairs_.data(), a.keys, s_->value_dim, probs.data, probs.stride, dout_[lane_],
                                 dout_.stride, dvalue_[a.key], dvalue_.stride);
      return true;
    }
    return false;
  }
  /// score.backward of one tile over the pairs that have a gradient, where the score is a product and that pays: equal
  /// bits.
  bool add_few_dfeatures(const Tile<T>& dx, Matrix<const T> keys) {
    if constexpr (std::is_same_v<T, float>) {
      if (!few_.gradients || !few_.pairs || !p_->score.stage->is_product()) return false;
      const Area& a = dx.area;
      kernels::add_pairs_to_rows(pairs_.data(), a.keys, keys.cols, dx.data, dx.stride, queries_.out[lane_],
                                 queries_.out.stride, dkey_rows_[a.key], dkey_rows_.stride);
      if (!few_.in_cells) lanes_of_dqueries();
      if (h_->in_rows) {
        kernels::add_pairs_to_query_rows(pairs_.data(), a.keys, keys.cols, dx.data, dx.stride, keys.data, keys.stride,
                                         h_->dlanes.data() + std::ptrdiff_t(lane_) * keys.cols, keys.cols);
      } else {
        kernels::add_pairs_to_lanes(pairs_.data(), a.keys, a.queries, keys.cols, keys.data, keys.stride, dx.data,
                                    dx.stride, h_->dlanes.data() + lane_, kLanes);
      }
      return true;
    }
    return false;
  }

  /// score.backward of one tile. In a partial tile, rows of features that are not finite are kept away from the pairs
  /// that do not see each other: they enter as zeros with a gradient of 0, which changes no bit of anybody else's sums,
  /// and the visible pairs they belong to are served one by one.
  void score_backward(Tile<T>& dx, const std::uint64_t* bits) {
    const Area& a = dx.area;
    const Matrix<const T> keys = key_rows_.part(a.key, a.keys);
    auto call = k_.score_call();
    Tile<T> kept{k_.kept.data(), kLanes, a};
    if (bits && !k_.kept.empty()) clear_tile(kept, bits);
    const std::uint64_t bad = bad_queries_ >> lane_;
    const bool clean_tile = !bits || (!bad && all_finite(keys));
    if (clean_tile && add_few_dfeatures(dx, keys)) return;
    lanes_of_dqueries();
    const DFeatures<T> df{{h_->dlanes.data() + lane_, queries_.out.cols, a.queries, kLanes},
                          dkey_rows_.part(a.key, a.keys)};
    if (clean_tile) {
      p_->score.stage->backward(features(a, queries_.lanes, queries_.out, keys), dx, df, call);
      return;
    }
    const Matrix<const T> clean_keys = without_bad_rows(keys, clean_key_memory_, bad_keys_);
    for (int j = 0; j < a.keys; ++j) {
      for (int i = 0; i < a.queries; ++i) {
        const std::uint64_t lane = std::uint64_t(1) << i;
        if (!bad_keys_[std::size_t(j)] && !(bad & lane)) continue;
        if (bits[j] & lane) {
          Area pair = a;
          pair.key += j, pair.keys = 1, pair.query += i, pair.queries = 1;
          const int width = queries_.out.cols;
          p_->score.stage->backward({{queries_.lanes.data() + lane_ + i, width, 1, kLanes},
                                     queries_.out.part(lane_ + i, 1),
                                     keys.part(j, 1),
                                     kept_of(j, i, 1, 1)},
                                    {&dx[j][i], kLanes, pair},
                                    {{df.query.data + i, width, 1, kLanes}, df.key.part(j, 1)}, call);
        }
        dx[j][i] = T(0);
        if (!k_.kept.empty()) kept[j][i] = T(0);
      }
    }
    const bool clean = !bad;
    p_->score.stage->backward(
        features(a, clean ? queries_.lanes : clean_lanes_, clean ? queries_.out : clean_rows_, clean_keys), dx, df,
        call);
  }

  /// From rows, where few pairs put it, to lanes, where all others do.
  void lanes_of_dqueries() {
    if (!h_->in_rows) return;
    const int width = queries_.out.cols;
    turned_.resize(h_->dlanes.size());
    transpose_rows(Matrix<const T>{h_->dlanes.data(), n_, width, width}, turned_.data(), kLanes);
    h_->dlanes.swap(turned_);
    h_->in_rows = false;
  }

  /// lanes, query_rows: the block's.
  Features<T> features(const Area& a, const Numbers<T>& lanes, Matrix<const T> query_rows, Matrix<const T> keys) const {
    return {{lanes.data() + lane_, query_rows.cols, a.queries, kLanes},
            query_rows.part(lane_, a.queries),
            keys,
            kept_of(0, 0, a.keys, a.queries)};
  }
  /// Logits that the score keeps, from key j and query i of the tile on; none where it keeps none.
  Matrix<const T> kept_of(int j, int i, int keys, int queries) const {
    if (k_.kept.empty()) return {};
    return {k_.kept.data() + std::ptrdiff_t(j) * kLanes + i, keys, queries, kLanes};
  }

  /// Queries of the block whose features or dout are not finite, and copies without them.
  void find_bad_queries() {
    bad_queries_ = 0;
    if (all_finite(queries_.out) && all_finite(dout_)) return;
    clean_rows_ = without_bad_rows(queries_.out, clean_row_memory_, bad_keys_);
    for (int i = 0; i < n_; ++i) bad_queries_ |= std::uint64_t(bad_keys_[std::size_t(i)] != 0) << i;
    clean_dout_ = without_bad_rows(dout_, clean_dout_memory_, bad_keys_);
    for (int i = 0; i < n_; ++i) bad_queries_ |= std::uint64_t(bad_keys_[std::size_t(i)] != 0) << i;
    for (int i = 0; i < n_; ++i) {  // bad in one, 0 in both
      if (!(bad_queries_ >> i & 1)) continue;
      std::fill_n(clean_row_memory_.begin() + std::ptrdiff_t(i) * clean_rows_.cols, clean_rows_.cols, T(0));
      std::fill_n(clean_dout_memory_.begin() + std::ptrdiff_t(i) * clean_dout_.cols, clean_dout_.cols, T(0));
    }
    clean_lanes_.resize(queries_.lanes.size());
    transpose_rows(clean_rows_, clean_lanes_.data(), kLanes);
  }

  /// dfeatures -> din through score and position. Rows that took part in no visible pair are left out: their features
  /// may be NaN, and their gradient is exactly 0.
  void map_backward(Side side, Matrix<const T> in, Matrix<const T> mid, bool mid_mapped, bool out_mapped,
                    Matrix<T> dfeatures, const Area& area, Matrix<T> din, const std::vector<char>& used) {
    const Matrix<T> dmid = mid_mapped ? zeroed(dmid_memory_, in.rows, mid.cols) : din;
    for (int begin = 0, n = 0; begin < in.rows; begin += n) {
      for (n = 1; begin + n < in.rows && used[std::size_t(begin + n)] == used[std::size_t(begin)]; ++n) {
      }
      if (!used[std::size_t(begin)]) continue;
      Area part = area;
      if (side == Side::query) {
        part.query += begin;
        part.queries = n;
      } else {
        part.key += begin;
        part.keys = n;
      }
      if (out_mapped) {
        auto c = k_.score_call();
        p_->score.stage->map_backward(side, mid.part(begin, n), dfeatures.part(begin, n), dmid.part(begin, n), part, c);
      } else {
        for (int i = begin; i < begin + n; ++i) {
          for (int d = 0; d < dfeatures.cols; ++d) dmid[i][d] += dfeatures[i][d];
        }
      }
      if (mid_mapped) {
        auto c = k_.position_call();
        p_->position.stage->map_backward(side, in.part(begin, n), dmid.part(begin, n), din.part(begin, n), part, c);
      }
    }
  }

  static Matrix<T> zeroed(Numbers<T>& memory, int rows, int cols) {
    memory.assign(std::size_t(rows) * cols, T(0));
    return {memory.data(), rows, cols, cols};
  }
  /// The caller's gradient memory, or a place to throw away what nobody asked for.
  static Matrix<T> wanted(const Strided<T>& g, int b, int h, int rows, int cols, Numbers<T>& memory, int first = 0) {
    return g.data ? g.matrix(b, h, first, rows, cols) : zeroed(memory, rows, cols);
  }

  const Problem<T>* p_ = nullptr;
  const AttendShape* s_ = nullptr;
  const BackwardInputs<T>* in_ = nullptr;
  const BackwardResult<T>* result_ = nullptr;
  Task<T> k_;
  typename Task<T>::QueryRows queries_;
  Matrix<const T> key_rows_, values_, dout_, clean_rows_, clean_dout_;
  Matrix<T> dkey_rows_, dvalue_;
  Numbers<T> dkey_memory_, dquery_memory_, dmid_memory_, dfeature_memory_, dquery_rows_, dout_lanes_, clean_row_memory_,
      clean_dout_memory_, clean_lanes_, clean_key_memory_;
  std::vector<char> used_keys_, used_queries_, bad_keys_;
  std::uint64_t bad_queries_ = 0;
  struct Few {  // of the tile at hand
    bool cells = false, pairs = false, in_cells = false, gradients = false;
  };
  Few few_;
  Numbers<T> turned_;
  std::vector<std::uint64_t> pairs_;  // that have a weight, of the tile at hand
  std::vector<Held> held_;  // one block's, or those of all blocks of a head where there are several super-blocks
  Held* h_ = nullptr;
  Area block_;
  Rows<T> r_;
  int n_ = 0, lane_ = 0, super_keys_ = 0;  // lane_: the first query of the piece at hand
};

/// Tasks whose heads share an in-place gradient run one after the other, in order; chains run side by side.
/// Returns how many neighbours in (batch, key head) order belong to one chain, and whether chains go along the batch.
enum class Chain { none, whole, along_batch, along_heads };
template <class T>
Chain chain_of(const Problem<T>& p) {
  bool by_batch = false, by_head = false, by_call = false;
  p.each_bound([&](const auto& arrays) {
    for (const auto& a : arrays) {
      if (!a.spec.in_place) continue;
      by_call = by_call || a.spec.per == Per::call;
      by_batch = by_batch || a.spec.per == Per::batch;  // shared by the heads of a batch entry
      by_head = by_head || a.spec.per == Per::head || a.spec.per == Per::kv_head;  // shared by batch entries
    }
  });
  if (by_call || (by_batch && by_head)) return Chain::whole;
  return by_head ? Chain::along_batch : by_batch ? Chain::along_heads : Chain::none;
}

}  // namespace

template <class T>
void backward(const Problem<T>& problem, const BackwardInputs<T>& inputs, const BackwardResult<T>& result) {
  const kernels::FlushDenormals caller;
  Problem<T> p = problem;
  p.tile_keys = std::min(p.tile_keys, kBackwardTileKeys);
  const AttendShape& s = p.shape;
  // A parameter whose gradient nobody wants still needs a place to be thrown away.
  std::vector<std::vector<T>> unwanted;
  auto give_place = [&](auto& arrays) {
    for (auto& a : arrays) {
      if (!a.spec.in_place || a.grad) continue;
      const std::ptrdiff_t copies = a.spec.per == Per::call      ? 1
                                    : a.spec.per == Per::batch   ? s.batch_size
                                    : a.spec.per == Per::head    ? s.num_heads
                                    : a.spec.per == Per::kv_head ? s.num_kv_heads
                                                                 : std::ptrdiff_t(s.batch_size) * s.num_heads;
      unwanted.emplace_back(std::size_t(copies * a.spec.size()));
      a.grad = unwanted.back().data();
    }
  };
  give_place(p.position.arrays);
  give_place(p.score.arrays);
  for (auto& b : p.bias) give_place(b.arrays);
  give_place(p.normalizer.arrays);

  const std::ptrdiff_t slot_size = p.slot_size();
  std::vector<T> slots(std::size_t(s.batch_size) * s.num_heads * std::size_t(slot_size), T(0));
  const KeyRows<T> keys = map_keys(p);
  auto run = [&](int b, int kv) {
    const kernels::FlushDenormals here;
    thread_local BackwardTask<T> task;
    task.reset(p, inputs, result);
    task.run(keys, b, kv, slots.data() + (std::ptrdiff_t(b) * s.num_heads + kv * s.group()) * slot_size, slot_size);
  };
  switch (chain_of(p)) {
    case Chain::none:
      parallel_for(std::int64_t(s.batch_size) * s.num_kv_heads,
                   [&](std::int64_t t) { run(int(t / s.num_kv_heads), int(t % s.num_kv_heads)); });
      break;
    case Chain::along_batch:
      parallel_for(s.num_kv_heads, [&](std::int64_t kv) {
        for (int b = 0; b < s.batch_size; ++b) run(b, int(kv));
      });
      break;
    case Chain::along_heads:
      parallel_for(s.batch_size, [&](std::int64_t b) {
        for (int kv = 0; kv < s.num_kv_heads; ++kv) run(int(b), kv);
      });
      break;
    case Chain::whole:
      for (int b = 0; b < s.batch_size; ++b) {
        for (int kv = 0; kv < s.num_kv_heads; ++kv) run(b, kv);
      }
      break;
  }
  // Slots are summed in (batch, head) order: no schedule of the tasks changes a bit.
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < s.num_heads; ++h) {
      const T* part = slots.data() + (std::ptrdiff_t(b) * s.num_heads + h) * slot_size;
      const Area a{&s, b, h, h / s.group(), 0, 0, 0, 0, 0};
      p.each_bound([&](const auto& arrays) {
        for (const auto& array : arrays) {
          if (array.spec.in_place) continue;
          T* grad = array.grad ? array.grad + array.at(a) : nullptr;
          for (std::ptrdiff_t i = 0; i < array.spec.size(); ++i, ++part) {
            if (grad) grad[i] += *part;
          }
        }
      });
    }
  }
}

template void backward<float>(const Problem<float>&, const BackwardInputs<float>&, const BackwardResult<float>&);
template void backward<double>(const Problem<double>&, const BackwardInputs<double>&, const BackwardResult<double>&);
template void backward<Dual<double>>(const Problem<Dual<double>>&, const BackwardInputs<Dual<double>>&,
                                     const BackwardResult<Dual<double>>&);

}  // namespace attune::engine

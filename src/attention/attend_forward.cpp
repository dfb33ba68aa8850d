// The tiles of the forward pass. One task is one block of at most 64 queries of one head; it walks over the keys:
//
//     logits = bias(score(q, k))      [keys][queries]
//     hide by the mask's bits
//     weights, factor = normalizer.forward(logits)
//     out = factor * out + value^T weights
//
// and divides at the end. A normalizer that wants whole rows gets all visited keys as one tall tile instead.
#include "attention/task.hpp"
#include "attune/attention/online_softmax.hpp"
#include "kernels/denormals.hpp"

namespace attune::engine {
namespace {

template <class T>
class ForwardBlock {
 public:
  /// Begins another call; a thread keeps one block.
  void reset(const Problem<T>& problem, const ForwardResult<T>& result) {
    p_ = &problem;
    result_ = &result;
    k_.reset(problem, false);
    out_.resize(std::size_t(problem.shape.value_dim) * kLanes);
  }

  /// The block of queries from `query` on, of head h.
  Area block_of(int b, int h, int query) const {
    const AttendShape& s = p_->shape;
    const int n = std::min(p_->tile_queries, s.num_queries - query);
    return {&s, b, h, h / s.group(), query, n, 0, 0, p_->offset[std::size_t(b)]};
  }

  /// next: the block that this thread will likely run after this one; no queries if there is none.
  void run(const KeyRows<T>& keys, const Area& block, const Area& next) {
    const AttendShape& s = p_->shape;
    const int b = block.batch;
    k_.bind(b, block.head, nullptr);
    n_ = block.queries;
    values_ = p_->value.matrix(b, block.kv_head, 0, s.num_keys, s.value_dim);
    k_.map_queries(block, queries_);
    key_rows_ = keys.out(b, block.kv_head);
    // More than the second-level cache keeps from one block of queries to the next.
    far_ = std::int64_t(sizeof(T)) * s.num_keys * (key_rows_.cols + s.value_dim) > cpu_info().l2_bytes * 3 / 4;
    Rows<T> r = k_.row_numbers(n_, result_->statistics != nullptr || result_->entropy != nullptr);
    empty_ = true;
    in_rows_ = false;
    seen_ = 0;
    clear_statistics();
    auto call = k_.normalizer_call();
    const bool whole = p_->normalizer.stage->walk() == Walk::whole_rows;
    sparse_ = whole && p_->normalizer.stage->is_sparse();
    strip_.clear();
    strip_bits_.clear();
    strip_pieces_.clear();

    k_.each_piece(block, {0, s.num_keys}, [&](const Area& a, const std::uint64_t* bits, const auto& walked) {
      if (walked.begins) fetch(block, next, walked);
      const int lane = a.query - block.query;
      if (whole) strip_.resize(strip_.size() + std::size_t(a.keys) * kLanes);
      Tile<T> x{whole ? &strip_[strip_.size() - std::size_t(a.keys) * kLanes] : k_.x.data(), kLanes, a};
      k_.score(
          {{queries_.lanes.data() + lane, queries_.out.cols, a.queries, kLanes}, {}, key_rows_.part(a.key, a.keys)}, x);
      if (result_->statistics) note_scores(x, lane, bits);
      k_.biases(x);
      if (result_->statistics) note_logits(x, lane, bits);
      if (bits) hide_tile(x, bits);
      k_.see(a, lane, bits, seen_, nullptr);
      if (whole) {
        if (bits) strip_bits_.insert(strip_bits_.end(), bits, bits + a.keys);
        strip_pieces_.push_back({a, bits != nullptr});
        return;
      }
      Rows<T> rows = k_.part(r, lane, a.queries);
      p_->normalizer.stage->forward(x, rows, call);
      add_value(x, lane, bits, r.factor);
    });
    if (whole && !strip_pieces_.empty()) {
      Area all = block;
      all.key = 0;
      all.keys = int(strip_.size() / kLanes);
      Tile<T> x{strip_.data(), kLanes, all};
      p_->normalizer.stage->forward(x, r, call);
      std::fill(r.factor, r.factor + kLanes, T(1));  // every piece has the same weight
      int j = 0;
      const std::uint64_t* bits = strip_bits_.data();
      for (const auto& [a, partial] : strip_pieces_) {
        add_value({x[j], kLanes, a}, 0, partial ? bits : nullptr, r.factor);
        j += a.keys;
        if (partial) bits += a.keys;
      }
    }
    p_->normalizer.stage->finish(r, call);
    write(block, r);
  }

 private:
  /// During this tile's products: what later tiles read of large biases, and shares of the next block's queries and of
  /// the rows that this block will write.
  void fetch(const Area& block, const Area& next, const typename Task<T>::Walked& walked) {
    k_.ahead.clear();
    k_.fetch_pairs(block, next, {0, p_->shape.num_keys}, walked);
    if (far_) {
      const Area tile = k_.tile_at(block, {0, p_->shape.num_keys}, walked.index + 1);
      if (tile.keys > 0) {
        k_.fetch_rows(key_rows_.part(tile.key, tile.keys));
        k_.fetch_rows(values_.part(tile.key, tile.keys));
      }
    }
    if (next.queries > 0) {
      k_.fetch_share(p_->query.matrix(next.batch, next.head, next.query, next.queries, p_->shape.query_dim), walked);
    }
    if (result_->out.data) {
      k_.fetch_share(result_->out.matrix(block.batch, block.head, block.query, n_, p_->shape.value_dim), walked);
    }
    k_.ahead.spread((p_->tile_keys + p_->shape.value_dim) / kFetchRows);
  }

  // out^T [Dv][queries] = factor * out^T + value^T weights, the first tile without the out it would find. Hidden
  // weights are 0, but 0 * NaN is NaN: in a partial tile, rows of values that are not finite enter the product as
  // zeros, which changes no bit for the queries that do not see them, and are then added for the queries that do.
  // The weights are those of queries from `lane` on; factor is the block's.
  void add_value(Tile<T> weights, int lane, const std::uint64_t* bits, const T* factor) {
    if (!result_->out.data) return;
    k_.drop(weights);
    const Area& a = weights.area;
    const int dv = p_->shape.value_dim;
    const Matrix<const T> values = values_.part(a.key, a.keys);
    if (sparse_ && add_few_values(values, weights, lane)) return;
    lanes_of_out();
    const bool clean = !bits || all_finite(values);
    const Matrix<const T> v = clean ? values : without_bad_rows(values, clean_values_, bad_);
    const T* w = weights.data;
    T* out = out_.data() + lane;
    if (empty_ && a.queries == n_) {
      product(dv, n_, a.keys, v.data, 1, v.stride, w, weights.stride, out, kLanes, &k_.ahead);
    } else {
      clear_if_empty();
      rescale_product(dv, a.queries, a.keys, v.data, 1, v.stride, w, weights.stride, out, kLanes, factor + lane,
                      &k_.ahead);
    }
    empty_ = false;
    for (int j = 0; !clean && j < a.keys; ++j) {
      if (!bad_[std::size_t(j)]) continue;
      for (int d = 0; d < dv; ++d) {
        for (int i = 0; i < a.queries; ++i) {
          if (bits[j] >> i & 1) out[std::ptrdiff_t(d) * kLanes + i] += values[j][d] * weights[j][i];
        }
      }
    }
  }
  void clear_if_empty() {
    if (empty_) std::fill(out_.begin(), out_.end(), T(0));
  }

  /// The same where few weights are not 0 and rows are whole, so that no factor is due: equal bits. False if that would
  /// not pay, or if 0 times a value may be NaN.
  bool add_few_values(Matrix<const T> values, const Tile<T>& weights, int lane) {
    if constexpr (std::is_same_v<T, float>) {
      const int keys = weights.area.keys, n = weights.area.queries;
      pairs_.resize(std::size_t(p_->tile_keys));
      kernels::nonzero_pairs(weights.data, weights.stride, keys, n, pairs_.data());
      const kernels::Sparsity few = kernels::sparsity(pairs_.data(), keys);
      if (!few_cells(few, keys, n) || !all_finite(values)) return false;
      clear_if_empty();
      in_rows_ = empty_ || in_rows_;
      empty_ = false;
      if (!few_in_cells(few)) lanes_of_out();
      if (in_rows_) {
        kernels::add_pairs_to_query_rows(pairs_.data(), keys, values.cols, weights.data, weights.stride, values.data,
                                         values.stride, out_.data() + std::ptrdiff_t(lane) * values.cols, values.cols);
      } else {
        kernels::add_pairs_to_lanes(pairs_.data(), keys, n, values.cols, values.data, values.stride, weights.data,
                                    weights.stride, out_.data() + lane, kLanes);
      }
      return true;
    }
    return false;
  }

  /// From rows, where few weights put it, to lanes, where all others do.
  void lanes_of_out() {
    if (!in_rows_) return;
    const int dv = p_->shape.value_dim;
    turned_.resize(out_.size());
    transpose_rows(Matrix<const T>{out_.data(), n_, dv, dv}, turned_.data(), kLanes);
    out_.swap(turned_);
    in_rows_ = false;
  }

  void write(const Area& block, const Rows<T>& r) {
    const AttendShape& s = p_->shape;
    const std::size_t row = (std::size_t(block.batch) * s.num_heads + block.head) * s.num_queries + block.query;
    if (result_->out.data) {
      lanes_of_out();
      scale_lanes(out_.data(), kLanes, s.value_dim, n_, r.factor);
      const Matrix<T> out = result_->out.matrix(block.batch, block.head, block.query, n_, s.value_dim);
      transpose_lanes(out_.data(), kLanes, out);
      // By selection: an empty row's factor may be anything.
      for (int i = 0; i < n_; ++i) {
        if (!sees(i)) std::fill(out[i], out[i] + s.value_dim, T(0));
      }
    }
    using std::exp;
    const bool moments = p_->normalizer.stage->gives_lse();
    for (int i = 0; i < n_; ++i) {
      if (result_->lse) result_->lse[row + i] = sees(i) ? r.stat[i] : kHidden<T>;
      if (result_->entropy) result_->entropy[row + i] = sees(i) ? row_entropy(r, i) : T(0);
      if (auto* stats = result_->statistics) {
        stats->largest_score[row + i] = largest_score_[i];
        stats->smallest_score[row + i] = smallest_score_[i];
        stats->largest_logit[row + i] = largest_logit_[i];
        if (moments && sees(i)) stats->largest_prob[row + i] = exp(largest_logit_[i] - r.stat[i]);
        stats->visible[row + i] = visible_[i];
        stats->non_finite[row + i] = non_finite_[i];
        stats->variance[row + i] = moments && sees(i) ? row_variance(r, i) : T(0);
        stats->sink_mass[row + i] = sees(i) ? r.mass[i] : T(0);
      }
    }
  }
  bool sees(int i) const { return seen_ >> i & 1; }

  void clear_statistics() {
    if (!result_->statistics) return;
    std::fill(largest_score_, largest_score_ + kLanes, kHidden<T>);
    std::fill(smallest_score_, smallest_score_ + kLanes, -kHidden<T>);
    std::fill(largest_logit_, largest_logit_ + kLanes, kHidden<T>);
    std::fill(visible_, visible_ + kLanes, 0);
    std::fill(non_finite_, non_finite_ + kLanes, 0);
  }
  void note_scores(const Tile<T>& x, int lane, const std::uint64_t* bits) {
    detail::on_cpu<T>([&] {
      for (int j = 0; j < x.area.keys; ++j) {
        const std::uint64_t seen = bits ? bits[j] : ~std::uint64_t(0);
        const T* s = x[j];
        T *most = largest_score_ + lane, *least = smallest_score_ + lane;
        for (int i = 0; i < x.area.queries; ++i) {
          const bool on = seen >> i & 1;
          most[i] = on && most[i] < s[i] ? s[i] : most[i];
          least[i] = on && s[i] < least[i] ? s[i] : least[i];
        }
      }
    });
  }
  void note_logits(const Tile<T>& x, int lane, const std::uint64_t* bits) {
    detail::on_cpu<T>([&] {
      for (int j = 0; j < x.area.keys; ++j) {
        const std::uint64_t seen = bits ? bits[j] : ~std::uint64_t(0);
        const T* s = x[j];
        T* most = largest_logit_ + lane;
        for (int i = 0; i < x.area.queries; ++i) {
          const bool on = seen >> i & 1;
          most[i] = on && most[i] < s[i] ? s[i] : most[i];
          visible_[lane + i] += on;
          non_finite_[lane + i] += on && !is_finite(s[i]);
        }
      }
    });
  }

  const Problem<T>* p_ = nullptr;
  const ForwardResult<T>* result_ = nullptr;
  Task<T> k_;
  typename Task<T>::QueryRows queries_;
  Matrix<const T> key_rows_, values_;
  bool sparse_ = false;      // most weights are 0
  bool far_ = false;         // keys and values of the head are too many to stay near
  bool in_rows_ = false;     // out_ is [queries][Dv]
  Numbers<T> out_, turned_;  // [Dv][kLanes]
  Numbers<T> strip_, clean_values_;
  std::vector<char> bad_;
  std::vector<std::uint64_t> strip_bits_, pairs_;
  std::vector<std::pair<Area, bool>> strip_pieces_;  // and whether they have bits
  int n_ = 0;
  bool empty_ = true;  // out_ holds nothing of this block yet
  std::uint64_t seen_ = 0;
  T largest_score_[kLanes] = {}, smallest_score_[kLanes] = {}, largest_logit_[kLanes] = {};
  int visible_[kLanes] = {};
  std::int64_t non_finite_[kLanes] = {};
};

}  // namespace

template <class T>
void forward(const Problem<T>& p, const ForwardResult<T>& result) {
  const AttendShape& s = p.shape;
  const kernels::FlushDenormals caller;
  const KeyRows<T> keys = map_keys(p);
  const int blocks = (s.num_queries + p.tile_queries - 1) / p.tile_queries;
  // Blocks of one head lie side by side, so that threads share the keys in cache; the last block first, which is the
  // longest under a causal mask.
  const std::int64_t tasks = std::int64_t(s.batch_size) * s.num_heads * blocks, threads = num_threads();
  parallel_for(tasks, [&](std::int64_t t) {
    const kernels::FlushDenormals here;
    thread_local ForwardBlock<T> task;
    task.reset(p, result);
    const auto block = [&](std::int64_t i) {
      return task.block_of(int(i / blocks / s.num_heads), int(i / blocks % s.num_heads),
                           (blocks - 1 - int(i % blocks)) * p.tile_queries);
    };
    task.run(keys, block(t), t + threads < tasks ? block(t + threads) : Area{});
  });
}

template void forward<float>(const Problem<float>&, const ForwardResult<float>&);
template void forward<double>(const Problem<double>&, const ForwardResult<double>&);
template void forward<Dual<double>>(const Problem<Dual<double>>&, const ForwardResult<Dual<double>>&);

}  // namespace attune::engine

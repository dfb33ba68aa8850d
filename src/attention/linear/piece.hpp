// The recurrence over some tokens at once, forward and backward, as products of small matrices.
//
// Let R_t = e^-G_t S_t, with G_t the sum of the gates since the piece's first token, whose own gate S has met already.
// Then R needs no gate: with q~ = e^G q, k~ = e^-G k (written), k^ = e^G k (read),
//
//     R_t = R_{t-1} + k~_t u_t^T          u = v, or beta_t (v_t - R_{t-1}^T k^_t)
//     out = Q~ R_0 + tril(Q~ K~^T) U      S' = e^G_last (R_0 + K~^T U)
//     (I + beta stril(K^ K~^T)) U = beta (V - K^ R_0)
//
// e^-G grows where the gates close, so a piece ends where |G| passes kGateLimit: after 64 tokens for mild gates, after
// one for gates that forget at once, and that one is exact for any gate. What would be a second level of blocks in
// other programs is the same code on shorter pieces here.
//
// Ladder, share of the multiply-add peak that the recurrence's own operations reach (8 heads, 4096 tokens, width 64,
// AVX-512): linear forward, gated delta forward, gated delta backward
//    18 %   11 %    3 %   token by token, the state in the first-level cache
//    35 %   29 %   22 %   chunks of 8
//    41 %   36 %   29 %   chunks of 32: products long enough, and half as much again within a chunk
//    39 %   34 %   25 %   chunks of 64
//    25 %   27 %   19 %   chunks of 256
//
// "Gated linear attention transformers", arXiv:2312.06635; "Parallelizing linear transformers with the delta rule over
// sequence length", arXiv:2406.06484.
#pragma once
#include "attention/linear/features.hpp"
#include "attention/linear/rows.hpp"
#include "attune/attention/linear/linear_attend.hpp"
#include "kernels/upcoming.hpp"

namespace attune::engine {

/// What all chunks of a call share.
template <class T>
struct LinearCall {
  LinearAttendShape shape;
  const LinearAttendOptions* options = nullptr;
  const LinearAttendInputs* in = nullptr;
  const Features<T>* features = nullptr;
  int group = 1;       // query heads that read one state
  int gates = 0;       // numbers of decay that a token has: 0, 1 or F
  bool delta = false;  // whether the rule takes beta
  T scale = 1;         // of queries
  int chunk = 64;      // tokens

  int rows() const { return shape.feature_dim; }
  int columns() const { return shape.state_dim; }
  std::int64_t state_size() const { return std::int64_t(rows()) * columns(); }
  /// Keys of a batch entry that change the state.
  int keys(int b) const { return options->valid_keys.empty() ? shape.num_keys : options->valid_keys[std::size_t(b)]; }
};

/// Tokens of one key head, loaded; of queries and what belongs to them `chunk` rows a head.
template <class T>
struct Chunk {
  int tokens = 0, heads = 0;  // heads: query heads that read, 0 where the state alone is wanted
  T* query = nullptr;         // [heads][chunk][F]: scale phi(q)
  T* key = nullptr;           // [chunk][F]: phi(k)
  T* value = nullptr;         // [chunk][state_dim]
  T* decay = nullptr;         // [chunk][gates]
  T* beta = nullptr;          // [chunk]
};
/// Gradients of the same.
template <class T>
using ChunkGradients = Chunk<T>;

template <class T>
class Piece {
 public:
  /// Takes its memory from the arena.
  Piece(const LinearCall<T>& call, Arena& arena, bool backward);

  /// Rows to fetch during the products, for what comes after this piece; null: none.
  void fetch(kernels::Upcoming* ahead) { ahead_ = ahead; }
  /// Makes the tokens from `first` on the piece and returns how many they are; one if `alone`.
  int open(const Chunk<T>& chunk, int first, bool alone);
  /// out [heads][chunk][W], rows of the piece; state [F][W] is that before the piece and becomes that after it.
  void forward(T* state, T* out);
  /// dstate is the gradient of the state after the piece and becomes that of the state before it. dout
  /// [heads][chunk][W].
  void backward(const T* before, const T* after, const T* dout, T* dstate, const ChunkGradients<T>& gradients);

 private:
  void solve(const T* state);
  void solve_backward(T* dupdate, T* dbeta);
  void leave_gates(const T* dlast, const T* dfirst, const ChunkGradients<T>& gradients);
  void scale_rows(const T* factor, T* state) const;
  T* of_head(T* rows, int h, int width) const { return rows + (std::ptrdiff_t(h) * call_.chunk + first_at_) * width; }
  const T* of_head(const T* rows, int h, int width) const {
    return rows + (std::ptrdiff_t(h) * call_.chunk + first_at_) * width;
  }

  const LinearCall<T>& call_;
  Chunk<T> chunk_;
  kernels::Upcoming* ahead_ = nullptr;
  int first_at_ = 0, tokens_ = 0;
  // Where the piece reads: the chunk's own arrays without gates.
  const T *read_ = nullptr, *write_ = nullptr, *update_rows_ = nullptr;
  T *gate_sum_, *factor_, *first_;     // [chunk][gates], the same, [gates]
  T *gated_read_, *gated_write_;       // q~ [group][chunk][F], k~ [chunk][F]
  T* back_;                            // -k^ [chunk][F]
  T *write_turned_, *pairs_;           // k~ as [F][chunk]; q~ . k~ [chunk][chunk], 0 above the diagonal
  T *own_, *error_, *update_;          // -k^ . k~ [chunk][chunk] below the diagonal; u / beta and u [chunk][W]
  T *begin_, *begin_turned_;           // R_0 [F][W] and [W][F]
  T *dstate_turned_, *update_turned_;  // [W][F], [W][chunk]
  T *dpairs_, *dupdate_, *dback_, *dgate_,
      *dots_;  // [chunk][chunk], [chunk][W], [chunk][F], [chunk][gates], [2][F] and [chunk]
};

}  // namespace attune::engine

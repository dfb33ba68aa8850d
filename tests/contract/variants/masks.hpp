// The masks of the contract tests, each beside its predicate.
#pragma once
#include <cstdlib>
#include <memory>

#include "attune/attention/mask/all.hpp"
#include "attune/base/dropout.hpp"
#include "contract/variant.hpp"

namespace attune::contract {

namespace detail {
using Visible = std::function<bool(int, int, int, int)>;
inline void add_mask(Scenario& s, AnyMask mask, Visible visible) {
  s.options.mask = s.options.mask & mask;
  const Visible before = s.reference.visible;
  s.reference.visible =
      before ? Visible([=](int b, int h, int i, int j) { return before(b, h, i, j) && visible(b, h, i, j); }) : visible;
}
/// -1: unbounded. The alignment must be set before.
inline void add_window(Scenario& s, AnyMask mask, int left, int right) {
  const std::vector<int> offset = s.reference.offset;
  add_mask(s, std::move(mask), [=](int b, int, int i, int j) {
    const int p = i + (offset.empty() ? 0 : offset[std::size_t(b)]);
    return (left < 0 || j >= p - left) && (right < 0 || j <= p + right);
  });
}
/// The first entry of the batch sees all keys but two, the next half of them, the third none.
inline void add_padding(Scenario& s) {
  std::vector<int> valid;
  for (int b = 0; b < s.shape.batch_size; ++b) {
    valid.push_back(b == 0 ? s.shape.num_keys - 2 : b == 1 ? s.shape.num_keys / 2 : 0);
  }
  add_mask(s, Padding{valid}, [valid](int b, int, int, int j) { return j < valid[std::size_t(b)]; });
}
/// `visible` is given the batch entry, the head, the query's position and the key. The alignment must be set before.
inline void add_placed_mask(Scenario& s, AnyMask mask, Visible visible) {
  const std::vector<int> offset = s.reference.offset;
  add_mask(s, std::move(mask), [=](int b, int h, int i, int j) {
    return visible(b, h, i + (offset.empty() ? 0 : offset[std::size_t(b)]), j);
  });
}
inline void align_bottom_right(Scenario& s) {
  s.options.alignment = Alignment::bottom_right;
  s.reference.offset.assign(std::size_t(s.shape.batch_size), s.shape.num_keys - s.shape.num_queries);
}
/// Blocks of 3 x 2, every other one of a chess board, turned from head to head.
inline void add_block_sparse(Scenario& s) {
  const int rows = s.shape.num_queries / 3 + 1, columns = s.shape.num_keys / 2 + 1;
  std::vector<std::uint8_t> bits;
  for (int n = 0; n < s.shape.num_heads * rows * columns; ++n) {
    bits.push_back((n / columns / rows + n / columns % rows + n % columns) % 2 == 0);
  }
  add_mask(s, BlockSparse(bits.data(), {s.shape.num_heads, rows, columns}, 3, 2),
           [=](int, int h, int i, int j) { return (h + i / 3 + j / 2) % 2 == 0; });
}
/// The blocks that it draws are the mask's own; the rest of its rule is written out.
inline void add_big_bird(Scenario& s) {
  const BigBird mask{.block = 2, .window = 0, .global_blocks = 1, .random_blocks = 1, .seed = 3};
  const AttendShape shape = s.shape;
  add_mask(s, mask, [=](int b, int h, int i, int j) {
    if (i < 2 || j < 2 || i / 2 == j / 2) return true;
    std::uint64_t row = 0;
    mask.visible({&shape, b, h, h / shape.group(), i, 1, j, 1, 0}, &row);
    return (row & 1) != 0;
  });
}
/// Two documents that end before the last key.
inline void add_documents(Scenario& s) {
  const int n = s.shape.num_keys, half = n / 3;
  add_placed_mask(s, Document{{{0, half, n - 1}}},
                  [=](int, int, int p, int j) { return p >= 0 && p < n - 1 && j < n - 1 && (p < half) == (j < half); });
}

/// Random bits over the axes that the shape names; the last axis may end early.
inline void add_dense_mask(Scenario& s, bool per_batch, bool per_head, bool per_query, int shorter) {
  const int B = per_batch ? s.shape.batch_size : 1, H = per_head ? s.shape.num_heads : 1;
  const int Q = per_query ? s.shape.num_queries : 1, K = s.shape.num_keys - shorter;
  auto bits = std::make_shared<std::vector<std::uint8_t>>();
  for (int n = 0; n < B * H * Q * K; ++n) bits->push_back(s.random.uniform() < 0.6);
  add_mask(s, DenseMask(bits->data(), {B, H, Q, K}), [=](int b, int h, int i, int j) {
    const int at = (((per_batch ? b : 0) * H + (per_head ? h : 0)) * Q + (per_query ? i : 0)) * K + j;
    return j < K && (*bits)[std::size_t(at)] != 0;
  });
}
}  // namespace detail

inline const Variants& masks() {
  using namespace detail;
  static const Variants all = {
      {"none", [](Scenario&) {}},
      {"causal", [](Scenario& s) { add_window(s, Causal{}, -1, 0); }},
      {"causal",
       [](Scenario& s) {
         align_bottom_right(s);
         add_window(s, Causal{}, -1, 0);
       }},
      {"causal",
       [](Scenario& s) {  // some rows stand before the first key: they see nothing
         for (int b = 0; b < s.shape.batch_size; ++b) s.options.offset.push_back(b % 2 ? 3 : -2);
         s.reference.offset = s.options.offset;
         add_window(s, Causal{}, -1, 0);
       }},
      {"window", [](Scenario& s) { add_window(s, Window{.left = 2, .right = 1}, 2, 1); }},
      {"window", [](Scenario& s) { add_window(s, Window{.left = 3}, 3, -1); }},
      {"dilated",
       [](Scenario& s) {
         align_bottom_right(s);
         add_placed_mask(s, Dilated{2, 1, 3},
                         [](int, int, int p, int j) { return (j - p) % 3 == 0 && j >= p - 6 && j <= p + 3; });
       }},
      {"prefix_lm",
       [](Scenario& s) { add_placed_mask(s, PrefixLm{{3}}, [](int, int, int p, int j) { return j < 3 || j <= p; }); }},
      {"document", [](Scenario& s) { align_bottom_right(s), add_documents(s); }},
      {"block_sparse", [](Scenario& s) { add_block_sparse(s); }},
      {"big_bird", [](Scenario& s) { add_big_bird(s); }},
      {"longformer",
       [](Scenario& s) {
         add_placed_mask(s, Longformer{1, 2, {0, 4}}, [](int, int, int p, int j) {
           const int far = std::abs(j - p);
           return far == 0 || far == 2 || p == 0 || p == 4 || j == 0 || j == 4;
         });
         add_window(s, Causal{}, -1, 0);
       }},
      {"sparse_strided",
       [](Scenario& s) {
         add_placed_mask(s, SparseStrided{2},
                         [](int, int, int p, int j) { return j <= p && (j >= p - 2 || (p - j) % 2 == 0); });
       }},
      {"sparse_fixed",
       [](Scenario& s) {
         add_placed_mask(s, SparseFixed{3, 1, SparsePart::by_head},
                         [](int, int h, int p, int j) { return j <= p && (h % 2 ? j % 3 == 2 : j / 3 == p / 3); });
       }},
      {"local_m",
       [](Scenario& s) {
         const AttendShape a = s.shape;
         add_mask(s, LocalM{1, true},
                  [=](int, int, int i, int j) { return std::abs(j - i * a.num_keys / a.num_queries) <= 1; });
       }},
      {"random",
       [](Scenario& s) {
         add_mask(s, RandomMask{0.6, 5}, [](int, int h, int i, int j) {
           return kept(5, 0, std::uint32_t(h), std::uint32_t(i), std::uint32_t(j), dropout_threshold(0.4));
         });
       }},
      {"visible_if",
       [](Scenario& s) {
         const auto odd = [](int p, int j) { return (p + j) % 2 == 1 || j == 0; };
         add_placed_mask(s, visible_if([=](auto at) { return odd(at.query, at.key); }),
                         [=](int, int, int p, int j) { return odd(p, j); });
       }},
      {"either",
       [](Scenario& s) {
         add_placed_mask(s, Window{1, 0} | LocalM{0} | Padding{std::vector<int>(std::size_t(s.shape.batch_size), 2)},
                         [](int, int, int p, int j) { return j < 2 || j == p || j == p - 1; });
       }},
      {"not",
       [](Scenario& s) {
         add_placed_mask(s, !Window{1, 1}, [](int, int, int p, int j) { return std::abs(j - p) > 1; });
       }},
      {"padding", [](Scenario& s) { add_padding(s); }},
      {"dense", [](Scenario& s) { add_dense_mask(s, true, true, true, 0); }},
      {"dense", [](Scenario& s) { add_dense_mask(s, false, true, false, 2); }},
      {"causal&padding", [](Scenario& s) { add_window(s, Causal{}, -1, 0), add_padding(s); }},
      {"window&dense", [](Scenario& s) {
         add_window(s, Window{.left = 4, .right = 2}, 4, 2);
         add_dense_mask(s, true, false, true, 0);
       }}};
  return all;
}

}  // namespace attune::contract

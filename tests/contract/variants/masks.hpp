// The masks of the contract tests, each beside its predicate.
#pragma once
#include <memory>

#include "attune/attention/mask/all.hpp"
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
  static const Variants all = {{"none", [](Scenario&) {}},
                               {"causal", [](Scenario& s) { add_window(s, Causal{}, -1, 0); }},
                               {"causal",
                                [](Scenario& s) {
                                  s.options.alignment = Alignment::bottom_right;
                                  s.reference.offset.assign(std::size_t(s.shape.batch_size),
                                                            s.shape.num_keys - s.shape.num_queries);
                                  add_window(s, Causal{}, -1, 0);
                                }},
                               {"causal",
                                [](Scenario& s) {  // some rows stand before the first key: they see nothing
                                  for (int b = 0; b < s.shape.batch_size; ++b)
                                    s.options.offset.push_back(b % 2 ? 3 : -2);
                                  s.reference.offset = s.options.offset;
                                  add_window(s, Causal{}, -1, 0);
                                }},
                               {"window", [](Scenario& s) { add_window(s, Window{.left = 2, .right = 1}, 2, 1); }},
                               {"window", [](Scenario& s) { add_window(s, Window{.left = 3}, 3, -1); }},
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

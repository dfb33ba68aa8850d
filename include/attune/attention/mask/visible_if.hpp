// A mask of your own from one lambda.
//
//     auto even = visible_if([](auto at) { return at.key <= at.query && at.key % 2 == 0; });
//     attend_forward(inputs, outputs, {.mask = even});
//
// It is asked for every pair. A mask that knows more (which keys a block of queries can see, which tiles are hidden
// throughout) is a struct with keys() and cover() beside visible(), as the files of this folder are; or is joined with
// one: visible_if(...) & Window{.left = 512, .right = 0}.
#pragma once
#include <functional>
#include <string_view>
#include <utility>

#include "attune/attention/any_stage.hpp"
#include "attune/attention/pointwise.hpp"

namespace attune {

struct VisibleIf {
  static constexpr std::string_view name = "visible_if";
  static constexpr std::string_view source = "a lambda of your own", cost = "the lambda for every pair";
  static constexpr bool by_name = false;
  std::function<void(const Area&, std::uint64_t* rows)> bits;

  void check(const AttendShape&) const;
  void visible(const Area& a, std::uint64_t* rows) const { bits(a, rows); }
};

/// Visible where f(PairIndex) says so; `query` there is the query's position. f is pure and is called from several
/// threads.
template <class F>
VisibleIf visible_if(F f) {
  return {[f = std::move(f)](const Area& a, std::uint64_t* rows) {
    detail::on_cpu<float>([&] {
      for (int j = 0; j < a.keys; ++j) {
        std::uint64_t word = 0;
        for (int i = 0; i < a.queries; ++i) {
          const bool seen = f(PairIndex{a.batch, a.head, a.query + a.offset + i, a.key + j});
          word |= std::uint64_t(seen) << i;
        }
        rows[j] = word;
      }
    });
  }};
}

}  // namespace attune

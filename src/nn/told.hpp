// What modules of attention share when they tell of themselves: rows by role, heads by rows, statistics. Private.
#pragma once
#include <initializer_list>
#include <string_view>
#include <vector>

#include "attune/autograd/ops/attend.hpp"
#include "attune/nn/attention_sites.hpp"

namespace attune::nn::detail {

/// So many heads of so many rows each.
struct HeadRows {
  Role role;
  std::int64_t heads, rows;
};

/// The roles of a module, collected. Undefined tensors are passed over.
class Told {
 public:
  /// A fused projection [rows, in] or its bias terms: these heads one after the other, from row 0 on.
  Told& heads(const Tensor&, std::initializer_list<HeadRows>);
  /// All rows; over_width: see ParameterRows.
  Told& all(const Tensor&, Role, bool over_width = false);
  /// All parameters of a member.
  Told& all(const Module& member, Role, bool over_width = false);

  std::vector<ParameterRows> rows;
};

/// Rows first .. first + count - 1; none of an undefined tensor.
TensorRows rows_of(const Tensor&, std::int64_t first, std::int64_t count);
/// All rows.
TensorRows rows_of(const Tensor&);
/// Heads whose projections lie one after the other: head h from row first + h * each on, of which it has `width` (0:
/// all).
std::vector<HeadProjection> heads_of(const Tensor& weight, const Tensor& bias, std::int64_t first, std::int64_t heads,
                                     std::int64_t each, std::int64_t width = 0);

/// The operators of the same names, and the statistics to who watches the module, as those of its site.
Attended attend_seen(const Module&, std::string_view site, const PackedHeads& query, const PackedHeads& key,
                     const PackedHeads& value, const AttendOptions& = {}, AttendExtras = {});
Attended attend_seen(const Module&, std::string_view site, const Tensor& query, const Tensor& key, const Tensor& value,
                     const AttendOptions& = {}, AttendExtras = {});

}  // namespace attune::nn::detail

// Rows by role, heads by rows, statistics for who watches.
#include "nn/told.hpp"

namespace attune::nn::detail {

Told& Told::heads(const Tensor& x, std::initializer_list<HeadRows> parts) {
  if (!x.defined()) return *this;
  std::int64_t row = 0;
  for (const HeadRows& p : parts) {
    for (std::int64_t h = 0; h < p.heads; ++h, row += p.rows) rows.push_back({{}, x, row, row + p.rows, p.role, 0, h});
  }
  return *this;
}
Told& Told::all(const Tensor& x, Role role, bool over_width) {
  if (x.defined()) rows.push_back({{}, x, 0, x.rank() > 0 ? x.shape()[0] : 1, role, 0, -1, over_width});
  return *this;
}
Told& Told::all(const Module& member, Role role, bool over_width) {
  for (const NamedTensor& p : member.named_parameters()) all(p.tensor, role, over_width);
  return *this;
}

TensorRows rows_of(const Tensor& tensor, std::int64_t first, std::int64_t count) {
  return tensor.defined() ? TensorRows{tensor, first, first + count} : TensorRows{};
}
TensorRows rows_of(const Tensor& tensor) {
  return tensor.defined() ? rows_of(tensor, 0, tensor.shape()[0]) : TensorRows{};
}

std::vector<HeadProjection> heads_of(const Tensor& weight, const Tensor& bias, std::int64_t first, std::int64_t heads,
                                     std::int64_t each, std::int64_t width) {
  std::vector<HeadProjection> all;
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::int64_t row = first + h * each, count = width > 0 ? width : each;
    all.push_back({.weight = rows_of(weight, row, count), .bias = rows_of(bias, row, count)});
  }
  return all;
}

namespace {

template <class Heads>
Attended seen_by(Attended (*attention)(const Heads&, const Heads&, const Heads&, const AttendOptions&,
                                       const AttendExtras&),
                 const Module& module, std::string_view site, const Heads& query, const Heads& key, const Heads& value,
                 const AttendOptions& options, AttendExtras extras) {
  extras.statistics = extras.statistics || module.watched();
  Attended result = attention(query, key, value, options, extras);
  if (module.watched()) module.saw(site, result.statistics);
  return result;
}

}  // namespace

Attended attend_seen(const Module& module, std::string_view site, const PackedHeads& query, const PackedHeads& key,
                     const PackedHeads& value, const AttendOptions& options, AttendExtras extras) {
  return seen_by<PackedHeads>(attend_packed, module, site, query, key, value, options, std::move(extras));
}
Attended attend_seen(const Module& module, std::string_view site, const Tensor& query, const Tensor& key,
                     const Tensor& value, const AttendOptions& options, AttendExtras extras) {
  return seen_by<Tensor>(attend, module, site, query, key, value, options, std::move(extras));
}

}  // namespace attune::nn::detail

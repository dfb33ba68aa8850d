// Masks by the distance of query and key: dilated, longformer, sparse transformer, local-m.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "attention/mask_areas.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/base/error.hpp"

namespace attune {

void Dilated::check(const AttendShape&) const {
  if (left < -1 || right < -1) {
    fail("dilated", "left and right of -1 (unbounded) or more", fmt::format("got {} and {}", left, right));
  }
  if (dilation < 1) fail("dilated", "a dilation of 1 or more", fmt::format("got {}", dilation));
}
Range Dilated::keys(const Area& a) const {
  const std::int64_t begin = areas::first_of(a) - std::int64_t(left) * dilation,
                     end = areas::last_of(a) + std::int64_t(right) * dilation + 1;
  const std::int64_t keys = a.shape->num_keys;
  return {left < 0 ? 0 : int(std::clamp<std::int64_t>(begin, 0, keys)),
          right < 0 ? int(keys) : int(std::clamp<std::int64_t>(end, 0, keys))};
}
Cover Dilated::cover(const Area& a) const {
  // Key minus position takes every value from low to high in the area.
  std::int64_t low = a.key - areas::last_of(a), high = areas::last_key_of(a) - areas::first_of(a);
  const std::int64_t least = left < 0 ? low : -std::int64_t(left) * dilation,
                     most = right < 0 ? high : std::int64_t(right) * dilation;
  const bool all =
      least <= low && high <= most && (dilation == 1 || (low == high && areas::modulo(low, dilation) == 0));
  low = std::max(low, least);
  high = std::min(high, most);
  return areas::cover_of(areas::floor_div(high, dilation) * dilation >= low, all);
}
void Dilated::visible(const Area& a, std::uint64_t* rows) const {
  constexpr int kFar = 1 << 29;  // positions are below: the sums of a window do not overflow
  if (dilation == 1) return Window{std::min(left, kFar), std::min(right, kFar)}.visible(a, rows);
  const std::int64_t reach = std::int64_t(left) * dilation, ahead = std::int64_t(right) * dilation;
  std::uint64_t comb = 0;
  for (int i = 0; i < kLanes; i += dilation) comb |= std::uint64_t(1) << i;
  std::int64_t k = std::int64_t(a.key) - areas::first_of(a);
  int phase = int(areas::modulo(k, dilation));
  for (int j = 0; j < a.keys; ++j, ++k) {
    const std::uint64_t window = detail::lane_bits(right < 0 ? 0 : k - ahead, left < 0 ? kLanes : k + reach + 1);
    rows[j] = phase < kLanes ? window & comb << phase : 0;
    if (++phase == dilation) phase = 0;
  }
}

namespace {
/// How many of the rising numbers lie in begin .. end-1.
int count_in(const std::vector<int>& rising, int begin, int end) {
  return int(std::lower_bound(rising.begin(), rising.end(), end) -
             std::lower_bound(rising.begin(), rising.end(), begin));
}
}  // namespace

void Longformer::check(const AttendShape&) const {
  if (half_window < 0) fail("longformer", "a half_window of 0 or more", fmt::format("got {}", half_window));
  if (dilation < 1) fail("longformer", "a dilation of 1 or more", fmt::format("got {}", dilation));
  const bool rises =
      std::adjacent_find(global_tokens.begin(), global_tokens.end(), std::greater_equal<>()) == global_tokens.end();
  if (!rises || (!global_tokens.empty() && global_tokens.front() < 0)) {
    fail("longformer", "global tokens at positions of 0 or more that rise", "got others");
  }
}
Range Longformer::keys(const Area& a) const {
  if (count_in(global_tokens, areas::first_of(a), areas::last_of(a) + 1) > 0) return {0, a.shape->num_keys};
  Range all = local().keys(a);
  if (!global_tokens.empty()) all = areas::hull(all, {global_tokens.front(), global_tokens.back() + 1});
  return all;
}
Cover Longformer::cover(const Area& a) const {
  const int queries = count_in(global_tokens, areas::first_of(a), areas::last_of(a) + 1),
            keys = count_in(global_tokens, a.key, a.key + a.keys);
  const Cover near = local().cover(a);
  return areas::cover_of(near != Cover::none || queries > 0 || keys > 0,
                         near == Cover::full || queries == a.queries || keys == a.keys);
}
void Longformer::visible(const Area& a, std::uint64_t* rows) const {
  local().visible(a, rows);
  std::uint64_t lanes = 0;
  for (auto t = std::lower_bound(global_tokens.begin(), global_tokens.end(), areas::first_of(a));
       t != global_tokens.end() && *t <= areas::last_of(a); ++t) {
    lanes |= std::uint64_t(1) << (*t - areas::first_of(a));
  }
  if (lanes) {
    for (int j = 0; j < a.keys; ++j) rows[j] |= lanes;
  }
  for (auto t = std::lower_bound(global_tokens.begin(), global_tokens.end(), a.key);
       t != global_tokens.end() && *t <= areas::last_key_of(a); ++t) {
    rows[*t - a.key] = areas::kAllLanes;
  }
}

namespace {
void check_stride(const char* stage, int stride) {
  if (stride < 1) fail(stage, "a stride of 1 or more", fmt::format("got {}", stride));
}
bool has_local(SparsePart part, const Area& a) {
  return part == SparsePart::both || part == SparsePart::local || (part == SparsePart::by_head && a.head % 2 == 0);
}
bool has_summary(SparsePart part, const Area& a) {
  return part == SparsePart::both || part == SparsePart::summary || (part == SparsePart::by_head && a.head % 2 == 1);
}
Window strided_local(int stride) { return {stride, 0}; }
Dilated strided_summary(int stride) { return {-1, 0, stride}; }
}  // namespace

void SparseStrided::check(const AttendShape&) const { check_stride("sparse_strided", stride); }
Range SparseStrided::keys(const Area& a) const {
  return {has_summary(part, a) ? 0 : strided_local(stride).keys(a).begin, areas::last_of(a) + 1};
}
Cover SparseStrided::cover(const Area& a) const {
  const Cover local = has_local(part, a) ? strided_local(stride).cover(a) : Cover::none;
  return has_summary(part, a) ? std::max(local, strided_summary(stride).cover(a)) : local;
}
void SparseStrided::visible(const Area& a, std::uint64_t* rows) const {
  const bool local = has_local(part, a);
  if (has_summary(part, a))
    strided_summary(stride).visible(a, rows);
  else
    std::fill(rows, rows + a.keys, std::uint64_t(0));
  for (int j = 0; local && j < a.keys; ++j) {
    const std::int64_t k = std::int64_t(a.key) + j - areas::first_of(a);
    rows[j] |= detail::lane_bits(k, k + stride + 1);
  }
}

void SparseFixed::check(const AttendShape&) const {
  check_stride("sparse_fixed", stride);
  if (summary < 1 || summary > stride) {
    fail("sparse_fixed", fmt::format("a summary of 1 to {} keys", stride), fmt::format("got {}", summary));
  }
}
Range SparseFixed::keys(const Area& a) const {
  const std::int64_t own = areas::floor_div(areas::first_of(a), stride) * stride;
  return {has_summary(part, a) ? 0 : int(std::max<std::int64_t>(own, 0)), areas::last_of(a) + 1};
}
Cover SparseFixed::cover(const Area& a) const {
  const std::int64_t first = areas::first_of(a), last = areas::last_of(a), last_key = areas::last_key_of(a);
  const std::int64_t seen = std::min(last_key, last);  // no key behind it is visible to anybody
  const bool past = last_key <= first;                 // every key is to every query
  const auto block = [&](std::int64_t x) { return areas::floor_div(x, stride); };
  // Summary keys are the last of their block: the area holds one unless it ends before the first of its own block.
  const bool meets = seen >= a.key && (areas::modulo(seen, stride) >= stride - summary || block(seen) > block(a.key));
  const bool holds = areas::modulo(a.key, stride) >= stride - summary && block(a.key) == block(last_key);
  const bool local = has_local(part, a), far = has_summary(part, a);
  return areas::cover_of((local && a.key <= last && last_key >= block(first) * stride) || (far && meets),
                         past && ((local && block(a.key) == block(last)) || (far && (holds || summary == stride))));
}
void SparseFixed::visible(const Area& a, std::uint64_t* rows) const {
  const bool local = has_local(part, a), far = has_summary(part, a);
  std::int64_t k = std::int64_t(a.key) - areas::first_of(a);
  int place = int(areas::modulo(a.key, stride));  // in its block
  for (int j = 0; j < a.keys; ++j, ++k) {
    const std::int64_t block_end = k - place + stride;
    rows[j] = far && place >= stride - summary ? detail::lane_bits(k, kLanes)
              : local                          ? detail::lane_bits(k, block_end)
                                               : 0;
    if (++place == stride) place = 0;
  }
}

void LocalM::check(const AttendShape&) const {
  if (half_width < 0) fail("local_m", "a half_width of 0 or more", fmt::format("got {}", half_width));
}
int LocalM::centre(const Area& a, int lane) const {
  if (!stretched) return areas::first_of(a) + lane;
  return int(std::int64_t(a.query + lane) * a.shape->num_keys / a.shape->num_queries);
}
Range LocalM::keys(const Area& a) const {
  return {centre(a, 0) - half_width, centre(a, a.queries - 1) + half_width + 1};
}
Cover LocalM::cover(const Area& a) const {
  // Centres rise, so the first and the last say how far all of them reach. Between two of them there may be a gap.
  const std::int64_t low = centre(a, 0), high = centre(a, a.queries - 1), last_key = areas::last_key_of(a);
  bool any = a.key <= high + half_width && last_key >= low - half_width;
  if (any && stretched) {
    any = false;
    for (int i = 0; i < a.queries && !any; ++i) {
      any = a.key <= centre(a, i) + half_width && last_key >= centre(a, i) - half_width;
    }
  }
  return areas::cover_of(any, a.key >= high - half_width && last_key <= low + half_width);
}
void LocalM::visible(const Area& a, std::uint64_t* rows) const {
  if (!stretched) return Window{half_width, half_width}.visible(a, rows);
  std::fill(rows, rows + a.keys, std::uint64_t(0));
  for (int i = 0; i < a.queries; ++i) {
    const int c = centre(a, i);
    const int end = std::min(a.keys, c + half_width + 1 - a.key);
    for (int j = std::max(0, c - half_width - a.key); j < end; ++j) rows[j] |= std::uint64_t(1) << i;
  }
}

}  // namespace attune

// Masks of texts and of single pairs: prefix LM, documents, random, a lambda.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "attention/mask_areas.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/base/dropout.hpp"
#include "attune/base/error.hpp"
#include "kernels/dropout.hpp"

namespace attune {

void PrefixLm::check(const AttendShape& s) const {
  if (prefix.size() > 1 && prefix.size() != std::size_t(s.batch_size)) {
    fail("prefix_lm", fmt::format("one prefix, or one for each of {} batch entries", s.batch_size),
         fmt::format("got {}", prefix.size()));
  }
  for (int n : prefix) {
    if (n < 0) fail("prefix_lm", "a prefix of 0 tokens or more", fmt::format("got {}", n));
  }
}
Range PrefixLm::keys(const Area& a) const { return {0, std::max(prefix_of(a), areas::last_of(a) + 1)}; }
Cover PrefixLm::cover(const Area& a) const {
  return areas::cover_of(a.key < std::max(prefix_of(a), areas::last_of(a) + 1),
                         areas::last_key_of(a) < std::max(prefix_of(a), areas::first_of(a) + 1));
}
void PrefixLm::visible(const Area& a, std::uint64_t* rows) const {
  for (int j = 0; j < a.keys; ++j) {
    const int k = a.key + j;
    rows[j] = k < prefix_of(a) ? areas::kAllLanes : detail::lane_bits(std::int64_t(k) - areas::first_of(a), kLanes);
  }
}

namespace {
/// Positions of the document that p lies in; empty if it is padding.
Range document_of(const std::vector<int>& bounds, int p) {
  const auto next = std::upper_bound(bounds.begin(), bounds.end(), p);
  if (next == bounds.begin() || next == bounds.end()) return {0, 0};
  return {*(next - 1), *next};
}
const std::vector<int>& bounds_of(const Document& d, const Area& a) {
  return d.boundaries[d.boundaries.size() == 1 ? 0 : std::size_t(a.batch)];
}
}  // namespace

Document Document::from_ids(std::span<const int> ids, int batch_size) {
  if (batch_size < 1 || ids.size() % std::size_t(batch_size) != 0) {
    fail("document", fmt::format("ids for {} batch entries of one length", batch_size),
         fmt::format("got {} ids", ids.size()));
  }
  Document d;
  const std::size_t tokens = ids.size() / std::size_t(batch_size);
  for (std::size_t b = 0; b < std::size_t(batch_size); ++b) {
    const auto of = ids.subspan(b * tokens, tokens);
    std::vector<int> bounds, seen;
    std::size_t begin = 0, end = tokens;
    while (begin < end && of[begin] < 0) ++begin;
    while (end > begin && of[end - 1] < 0) --end;
    for (std::size_t t = begin; t < end; ++t) {
      if (t > begin && of[t] == of[t - 1]) continue;
      if (of[t] < 0) {
        fail("document", "padding (negative ids) at both ends alone",
             fmt::format("got it at token {} between documents", t));
      }
      bounds.push_back(int(t));
      seen.push_back(of[t]);
    }
    std::sort(seen.begin(), seen.end());
    if (const auto twice = std::adjacent_find(seen.begin(), seen.end()); twice != seen.end()) {
      fail("document", "the tokens of a document side by side", fmt::format("got id {} in two places", *twice));
    }
    if (end > begin) bounds.push_back(int(end));
    d.boundaries.push_back(std::move(bounds));
  }
  return d;
}
void Document::check(const AttendShape& s) const {
  if (boundaries.size() != 1 && boundaries.size() != std::size_t(s.batch_size)) {
    fail("document", fmt::format("boundaries once, or for each of {} batch entries", s.batch_size),
         fmt::format("got {}", boundaries.size()));
  }
  for (const auto& bounds : boundaries) {
    if (std::adjacent_find(bounds.begin(), bounds.end(), std::greater_equal<>()) != bounds.end()) {
      fail("document", "boundaries that rise", "got others");
    }
  }
}
Range Document::keys(const Area& a) const {
  const std::vector<int>& bounds = bounds_of(*this, a);
  if (bounds.size() < 2) return {0, 0};
  // Documents lie side by side, so those of the first and the last query enclose what all queries see.
  const int first = std::max(areas::first_of(a), bounds.front()), last = std::min(areas::last_of(a), bounds.back() - 1);
  if (first > last) return {0, 0};
  return {document_of(bounds, first).begin, document_of(bounds, last).end};
}
Cover Document::cover(const Area& a) const {
  const Range seen = keys(a), own = document_of(bounds_of(*this, a), areas::first_of(a));
  return areas::cover_of(a.key < seen.end && areas::last_key_of(a) >= seen.begin,
                         areas::last_of(a) < own.end && a.key >= own.begin && areas::last_key_of(a) < own.end);
}
void Document::visible(const Area& a, std::uint64_t* rows) const {
  const std::vector<int>& bounds = bounds_of(*this, a);
  for (int j = 0; j < a.keys;) {
    const int key = a.key + j;
    const Range r = document_of(bounds, key);
    const std::uint64_t lanes =
        detail::lane_bits(std::int64_t(r.begin) - areas::first_of(a), std::int64_t(r.end) - areas::first_of(a));
    const int end = areas::is_empty(r) ? j + 1 : std::min(a.keys, r.end - a.key);
    for (; j < end; ++j) rows[j] = areas::is_empty(r) ? 0 : lanes;
  }
}

void RandomMask::check(const AttendShape&) const {
  if (!(keep > 0 && keep <= 1)) fail("random", "keep above 0 and at most 1", fmt::format("got {}", keep));
}
void RandomMask::visible(const Area& a, std::uint64_t* rows) const {
  // What dropout would keep.
  kernels::kept_bits(rows, std::uint64_t(seed), 0, a.head, areas::first_of(a), a.queries, a.key, a.keys,
                     dropout_threshold(1 - keep));
}

void VisibleIf::check(const AttendShape&) const {
  if (!bits) fail("visible_if", "a predicate", "got none");
}

}  // namespace attune

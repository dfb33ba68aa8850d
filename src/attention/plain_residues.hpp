// A dilated mask on the plain path: query i at position p sees keys p + n * dilation, all of them in its own residue
// class, so that every class is attention of its own, of rows `dilation` apart, under a window that has no holes.
#pragma once
#include <vector>

#include "attention/plain_mask.hpp"
#include "attention/problem.hpp"
#include "attune/attention/mask/both.hpp"

namespace attune::engine {

/// One class of some batch entries: a problem whose rows are the class's.
template <class T>
struct Residue {
  Problem<T> problem;
  PlainMask mask;              // of the problem: dilation 1
  int batch, query, key;       // the first of each
  int step;                    // from row to row
  int num_heads, all_queries;  // of the whole problem

  template <class U>
  Strided<U> queries(const Strided<U>& x) const {
    return x.data ? Strided<U>{x.data + batch * x.batch + query * x.row, x.batch, x.head, x.row * step} : x;
  }
  template <class U>
  Strided<U> keys(const Strided<U>& x) const {
    return x.data ? Strided<U>{x.data + batch * x.batch + key * x.row, x.batch, x.head, x.row * step} : x;
  }
};

/// Numbers of the class's queries, side by side [B, H, queries], from and to those of all queries [B, H, Tq].
template <class T>
class ResidueRows {
 public:
  explicit ResidueRows(const Residue<T>& r) : r_(r) {}
  std::size_t size() const {
    const AttendShape& s = r_.problem.shape;
    return std::size_t(s.batch_size) * s.num_heads * s.num_queries;
  }
  T* room() {
    memory_.emplace_back(size());
    return memory_.back().data();
  }
  /// Null where there are none.
  const T* take(const T* all) {
    if (!all) return nullptr;
    T* const part = room();
    each([&](std::size_t i, std::size_t at) { part[i] = all[at]; });
    return part;
  }
  template <class U>
  void give(const U* part, U* all) const {
    if (part && all) each([&](std::size_t i, std::size_t at) { all[at] = part[i]; });
  }

 private:
  template <class F>
  void each(F f) const {
    const AttendShape& s = r_.problem.shape;
    std::size_t i = 0;
    for (int b = 0; b < s.batch_size; ++b) {
      for (int h = 0; h < s.num_heads; ++h) {
        const std::size_t first = (std::size_t(r_.batch + b) * r_.num_heads + h) * r_.all_queries + r_.query;
        for (int q = 0; q < s.num_queries; ++q, ++i) f(i, first + std::size_t(q) * r_.step);
      }
    }
  }
  const Residue<T>& r_;
  std::vector<std::vector<T>> memory_;
};

/// Calls f(Residue) for every class, one after the other; batch entries whose classes lie alike are taken together.
template <class T, class F>
void each_residue(const Problem<T>& p, const PlainMask& mask, F f) {
  const AttendShape& s = p.shape;
  const int d = mask.dilation;
  const auto modulo = [d](int x) { return (x % d + d) % d; };
  for (int b = 0, n = 0; b < s.batch_size; b += n) {
    for (n = 1; b + n < s.batch_size && modulo(p.offset[std::size_t(b + n)]) == modulo(p.offset[std::size_t(b)]); ++n) {
    }
    for (int query = 0; query < std::min(d, s.num_queries); ++query) {
      const int key = modulo(modulo(p.offset[std::size_t(b)]) + query);
      const auto rows = [&](int all, int first) { return all > first ? (all - first + d - 1) / d : 0; };
      Residue<T> r{.problem = p,
                   .mask = {.window = mask.window},
                   .batch = b,
                   .query = query,
                   .key = key,
                   .step = d,
                   .num_heads = s.num_heads,
                   .all_queries = s.num_queries};
      Padding padding;
      r.problem.shape.batch_size = n;
      r.problem.shape.num_queries = rows(s.num_queries, query);
      r.problem.shape.num_keys = rows(s.num_keys, key);
      r.problem.offset.clear();
      for (int i = b; i < b + n; ++i) {
        // The class's first key stands `key` places behind the sequence's, the first query `query`: a multiple of d.
        r.problem.offset.push_back((p.offset[std::size_t(i)] + query - key) / d);
        if (mask.padding) padding.valid_keys.push_back(rows(mask.padding->valid_keys[std::size_t(i)], key));
      }
      if (mask.padding) r.mask.padding = &padding;
      if (r.problem.shape.num_keys == 0) r.key = 0;  // nothing is read
      r.problem.query = r.queries(p.query);
      r.problem.key = r.keys(p.key);
      r.problem.value = r.keys(p.value);
      AnyMask bits = r.mask.window;  // for the stages, which count what is not finite
      if (mask.padding) bits = Both{bits, padding};
      r.problem.mask = bits.get();
      f(r);
    }
  }
}

}  // namespace attune::engine

// Sequences of different lengths, end to end on the token axis: one call each, over views of its own rows. No padding
// is made, so the cost is the sum of the parts; a sequence is what a batch entry is elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "attention/call.hpp"
#include "attention/sequences.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune::engine {
namespace {

/// Rows begin .. end-1 of the queries and of the keys of one sequence.
struct Part {
  int query, queries, key, keys;
};

class Parts {
 public:
  Parts(const char* function, const AttendInputs& in, const AttendOptions& o) : function_(function), options_(&o) {
    whole_ = shape_of(function, in.query, in.key, in.value);
    if (whole_.batch_size != 1) {
      fail(function, "one batch entry, which holds all sequences", fmt::format("got {}", whole_.batch_size));
    }
    const auto& queries = o.sequences.queries;
    const auto& keys = o.sequences.keys.empty() ? queries : o.sequences.keys;
    check("queries", queries, whole_.num_queries);
    check("keys", keys, whole_.num_keys);
    if (keys.size() != queries.size()) {
      fail(function, fmt::format("{} boundaries of keys, as of queries", queries.size()),
           fmt::format("got {}", keys.size()));
    }
    for (std::size_t i = 0; i + 1 < queries.size(); ++i)
      parts_.push_back({queries[i], queries[i + 1] - queries[i], keys[i], keys[i + 1] - keys[i]});
    if (o.offset.size() > 1 && o.offset.size() != parts_.size()) {
      fail(function, fmt::format("one offset, or one for each of {} sequences", parts_.size()),
           fmt::format("got {}", o.offset.size()));
    }
    check_parameters(in.parameters);
  }

  const AttendShape& whole() const { return whole_; }
  AttendShape shape(std::size_t i) const {
    AttendShape s = whole_;
    s.num_queries = parts_[i].queries;
    s.num_keys = parts_[i].keys;
    return s;
  }
  AttendOptions options(std::size_t i) const {
    AttendOptions o = *options_;
    o.sequences = {};
    o.first_batch += int(i);
    if (o.offset.size() > 1) o.offset = {o.offset[i]};
    return o;
  }
  AttendInputs inputs(std::size_t i, const AttendInputs& in) const {
    AttendInputs part{queries(i, in.query), keys(i, in.key), keys(i, in.value), {}};
    for (std::size_t k = 0; k < in.parameters.size(); ++k) part.parameters.push_back(parameter(i, k, in.parameters[k]));
    return part;
  }
  template <class V>
  V queries(std::size_t i, V v) const {
    return tokens(v, parts_[i].query, parts_[i].queries, whole_.num_queries);
  }
  template <class V>
  V keys(std::size_t i, V v) const {
    return tokens(v, parts_[i].key, parts_[i].keys, whole_.num_keys);
  }
  /// The copies of parameter k that belong to sequence i.
  template <class V>
  V parameter(std::size_t i, std::size_t k, V v) const {
    if (v.empty() || !per_sequence_[k]) return v;
    const std::int64_t rows = v.shape[0] == 0 ? 0 : v.shape.size() / v.shape[0];
    v.shape = v.shape.with(0, 1);
    return moved(v, std::int64_t(i) * rows);
  }

  /// Calls f(sequence) for each, in parallel where their number feeds the threads; else, or if they share memory that
  /// they add to, in order, each with all threads. The result does not depend on it.
  template <class F>
  void each(bool in_order, F f) const {
    if (in_order || parts_.size() < 2 * std::size_t(num_threads())) {
      for (std::size_t i = 0; i < parts_.size(); ++i) f(i);
      return;
    }
    std::vector<std::size_t> order(parts_.size());  // the longest first
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return pairs(a) > pairs(b); });
    parallel_for(std::int64_t(order.size()), [&](std::int64_t t) { f(order[std::size_t(t)]); });
  }

  /// Row numbers [1, H, total] of sequence i as [1, H, queries] in memory of their own; none if v is empty.
  ConstView rows(std::size_t i, const ConstView& v, std::vector<std::byte>& memory) const {
    if (v.empty()) return {};
    return gather_rows(i, v, memory, true);
  }
  /// The same for what is written: no data is read.
  View room(std::size_t i, const View& v, std::vector<std::byte>& memory) const {
    if (v.empty()) return {};
    return gather_rows(i, v, memory, false);
  }
  void scatter_rows(std::size_t i, const std::vector<std::byte>& memory, const View& v) const {
    if (v.empty()) return;
    each_head(i, v,
              [&](std::byte* whole, std::size_t at, std::size_t n) { std::memcpy(whole, memory.data() + at, n); });
  }
  std::size_t size() const { return parts_.size(); }

 private:
  void check(const char* what, const std::vector<int>& bounds, int total) const {
    const bool fits = bounds.size() > 1 && bounds.front() == 0 && bounds.back() == total &&
                      std::is_sorted(bounds.begin(), bounds.end());
    if (!fits) {
      fail(function_, fmt::format("sequences.{} that rise from 0 to {}", what, total),
           bounds.empty() ? "got none"
                          : fmt::format("got {} numbers from {} to {}", bounds.size(), bounds.front(), bounds.back()));
    }
  }
  /// Which parameters have a copy per sequence; all others must look the same to every sequence.
  void check_parameters(const std::vector<ConstView>& given) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto p = make_problem<float>(shape(i), *options_);
      std::size_t k = 0;
      p.each_bound([&](const auto& arrays) {
        for (const auto& a : arrays) {
          if (i == 0) {
            specs_.push_back(a.spec);
            per_sequence_.push_back(a.spec.per == Per::batch || a.spec.per == Per::batch_head);
          }
          if (a.spec.shape != specs_[k].shape) {
            fail(function_, fmt::format("{} of one shape for all sequences", a.spec.name),
                 "got one that follows their lengths");
          }
          if (per_sequence_[k] && k < given.size() &&
              (given[k].shape.rank() == 0 || given[k].shape[0] != std::int64_t(parts_.size()))) {
            fail(function_, fmt::format("{} for each of {} sequences", a.spec.name, parts_.size()),
                 "got " + given[k].shape.text());
          }
          ++k;
        }
      });
    }
  }
  std::int64_t pairs(std::size_t i) const { return std::int64_t(parts_[i].queries) * parts_[i].keys; }

  template <class V>
  static V moved(V v, std::int64_t elements) {
    using Byte = std::conditional_t<std::is_same_v<V, View>, std::byte, const std::byte>;
    if (!v.empty()) v.data = static_cast<Byte*>(v.data) + elements * std::int64_t(size_of(v.dtype));
    return v;
  }
  template <class V>
  V tokens(V v, int first, int n, int total) const {
    if (v.empty() || v.shape.rank() != 4) return v;  // the call says what is wrong with a rank
    if (v.shape[2] != total) fail(function_, fmt::format("{} rows, of all sequences", total), "got " + v.shape.text());
    v.shape = v.shape.with(2, n);
    return moved(v, first * v.strides[2]);
  }
  template <class F>
  void each_head(std::size_t i, const View& v, F f) const {
    const std::size_t element = size_of(v.dtype), n = std::size_t(parts_[i].queries) * element;
    for (int h = 0; h < whole_.num_heads; ++h) {
      const std::size_t at = (std::size_t(h) * whole_.num_queries + std::size_t(parts_[i].query)) * element;
      f(static_cast<std::byte*>(v.data) + at, std::size_t(h) * n, n);
    }
  }
  View gather_rows(std::size_t i, const ConstView& v, std::vector<std::byte>& memory, bool copy) const {
    const Shape rows{1, whole_.num_heads, whole_.num_queries};
    if (!(v.shape == rows) || v.strides[1] != whole_.num_queries || v.strides[2] != 1)
      fail(function_, fmt::format("row numbers {} in contiguous memory", rows.text()), "got " + v.shape.text());
    memory.resize(std::size_t(whole_.num_heads) * std::size_t(parts_[i].queries) * size_of(v.dtype) + 1);
    const View whole(const_cast<void*>(v.data), v.dtype, v.shape);
    if (copy)
      each_head(i, whole, [&](std::byte* from, std::size_t at, std::size_t n) { std::memcpy(&memory[at], from, n); });
    return View(memory.data(), v.dtype, {1, whole_.num_heads, parts_[i].queries});
  }

  const char* function_;
  const AttendOptions* options_;
  AttendShape whole_;
  std::vector<Part> parts_;
  std::vector<ParameterSpec> specs_;
  std::vector<bool> per_sequence_;
};

/// Statistics of all sequences, from theirs: means weighted by the rows they were taken over, in order.
Statistics merged(const std::vector<Statistics>& all, int heads) {
  Statistics out;
  out.batch_size = 1;
  out.num_heads = heads;
  const std::size_t n = std::size_t(heads);
  const bool moments = !all.empty() && !all[0].lse.empty();
  const auto sum = [&](auto member, const auto& weight) {
    auto& to = out.*member;
    to.assign(n, {});
    for (std::size_t h = 0; h < n; ++h) {
      double total = 0, weights = 0;
      for (const Statistics& s : all) {
        total += double((s.*member)[h]) * weight(s, h);
        weights += weight(s, h);
      }
      to[h] = weights > 0 ? total / weights : 0;
    }
  };
  const auto count = [&](auto member) {
    (out.*member).assign(n, 0);
    for (const Statistics& s : all) {
      for (std::size_t h = 0; h < n; ++h) (out.*member)[h] += (s.*member)[h];
    }
  };
  // Only sequences that have such rows take part: others hold 0.
  const auto extreme = [&](auto member, auto rows, bool largest) {
    (out.*member).assign(n, 0);
    for (std::size_t h = 0; h < n; ++h) {
      bool any = false;
      for (const Statistics& s : all) {
        if ((s.*rows)[h] == 0) continue;
        const double x = (s.*member)[h];
        double& to = (out.*member)[h];
        to = !any ? x : largest ? std::max(to, x) : std::min(to, x);
        any = true;
      }
    }
  };
  const auto by_rows = [](const Statistics& s, std::size_t h) { return double(s.rows[h]); };
  const auto by_choices = [](const Statistics& s, std::size_t h) { return double(s.choosing_rows[h]); };
  count(&Statistics::rows);
  count(&Statistics::choosing_rows);
  count(&Statistics::non_finite);
  extreme(&Statistics::largest_score, &Statistics::rows, true);
  extreme(&Statistics::smallest_score, &Statistics::rows, false);
  extreme(&Statistics::largest_logit, &Statistics::rows, true);
  if (!moments) return out;
  sum(&Statistics::lse, by_rows);
  sum(&Statistics::entropy, by_choices);
  sum(&Statistics::entropy_normalized, by_choices);
  extreme(&Statistics::entropy_min, &Statistics::choosing_rows, false);
  sum(&Statistics::variance, by_rows);
  sum(&Statistics::largest_prob, by_rows);
  sum(&Statistics::sink_mass, by_rows);
  return out;
}

/// Outputs of one sequence; row numbers lie in memory of their own until they are written back.
struct OutputPart {
  OutputPart(const Parts& parts, std::size_t i, const AttendOutputs& to)
      : outputs{parts.queries(i, to.out), parts.room(i, to.lse, lse), parts.room(i, to.entropy, entropy),
                to.statistics} {}
  void write_back(const Parts& parts, std::size_t i, const AttendOutputs& to) const {
    parts.scatter_rows(i, lse, to.lse);
    parts.scatter_rows(i, entropy, to.entropy);
  }
  std::vector<std::byte> lse, entropy;
  AttendOutputs outputs;
};

/// Incoming gradients of one sequence: those that attend_backward_jvp reads.
struct UpstreamPart {
  UpstreamPart(const Parts& parts, std::size_t i, const AttendUpstream& of) {
    upstream.dout = parts.queries(i, of.dout);
    upstream.dlse = parts.rows(i, of.dlse, dlse);
    upstream.dentropy = parts.rows(i, of.dentropy, dentropy);
  }
  std::vector<std::byte> dlse, dentropy;
  AttendUpstream upstream;
};

AttendGradients gradients_of(const Parts& parts, std::size_t i, const AttendGradients& g) {
  AttendGradients part{parts.queries(i, g.query), parts.keys(i, g.key), parts.keys(i, g.value), {}};
  for (std::size_t k = 0; k < g.parameters.size(); ++k)
    part.parameters.push_back(parts.parameter(i, k, g.parameters[k]));
  return part;
}
/// Whether sequences add to the same memory.
bool any_parameter(const AttendGradients& g) {
  return std::any_of(g.parameters.begin(), g.parameters.end(), [](const View& v) { return !v.empty(); });
}

}  // namespace

void forward_sequences(const AttendInputs& in, const AttendOutputs& out, const AttendOptions& o) {
  const Parts parts("attend_forward", in, o);
  std::vector<Statistics> statistics(out.statistics ? parts.size() : 0);
  parts.each(false, [&](std::size_t i) {
    OutputPart part(parts, i, out);
    if (out.statistics) part.outputs.statistics = &statistics[i];
    attend_forward(parts.inputs(i, in), part.outputs, parts.options(i));
    part.write_back(parts, i, out);
  });
  if (out.statistics) *out.statistics = merged(statistics, parts.whole().num_heads);
}

void backward_sequences(const AttendInputs& in, const AttendUpstream& up, const AttendGradients& g,
                        const AttendOptions& o) {
  const Parts parts("attend_backward", in, o);
  parts.each(any_parameter(g), [&](std::size_t i) {
    std::vector<std::byte> lse, entropy, dlse, dentropy;
    const AttendUpstream part{parts.queries(i, up.out),           parts.rows(i, up.lse, lse),
                              parts.rows(i, up.entropy, entropy), parts.queries(i, up.dout),
                              parts.rows(i, up.dlse, dlse),       parts.rows(i, up.dentropy, dentropy)};
    attend_backward(parts.inputs(i, in), part, gradients_of(parts, i, g), parts.options(i));
  });
}

void jvp_sequences(const AttendInputs& in, const AttendInputs& tangents, const AttendJvp& to, const AttendOptions& o) {
  const Parts parts("attend_jvp", in, o);
  parts.each(false, [&](std::size_t i) {
    const OutputPart value(parts, i, to.value), tangent(parts, i, to.tangent);
    attend_jvp(parts.inputs(i, in), parts.inputs(i, tangents), {value.outputs, tangent.outputs}, parts.options(i));
    value.write_back(parts, i, to.value);
    tangent.write_back(parts, i, to.tangent);
  });
}

void backward_jvp_sequences(const AttendInputs& in, const AttendInputs& tangents, const AttendUpstream& up,
                            const AttendUpstream& up_tangents, const AttendBackwardJvp& to, const AttendOptions& o) {
  const Parts parts("attend_backward_jvp", in, o);
  parts.each(any_parameter(to.value) || any_parameter(to.tangent), [&](std::size_t i) {
    const UpstreamPart upstream(parts, i, up), moves(parts, i, up_tangents);
    attend_backward_jvp(parts.inputs(i, in), parts.inputs(i, tangents), upstream.upstream, moves.upstream,
                        {gradients_of(parts, i, to.value), gradients_of(parts, i, to.tangent)}, parts.options(i));
  });
}

}  // namespace attune::engine

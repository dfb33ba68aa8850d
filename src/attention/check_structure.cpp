// What does not depend on numbers: bits, threads, and what a mask promises.
#include <cstring>

#include "attention/check_parts.hpp"
#include "attune/base/parallel.hpp"

namespace attune::checking {

static bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

void check_threads(Judge& judge, const ToyCall& c) {
  const int threads = num_threads();
  set_num_threads(1);
  const ToyResult<double> one = run_public<double>(c, c.in);
  set_num_threads(3);
  const ToyResult<double> three = run_public<double>(c, c.in);
  set_num_threads(threads);
  bool same = same_bits(one.out, three.out);
  for (std::size_t a = 0; a < c.in.size(); ++a) same = same && same_bits(one.gradient[a], three.gradient[a]);
  if (!same) judge.fails("1 and 3 threads give different bits");
}

void check_hidden(Judge& judge, const ToyCall& c, const ToyResult<double>& run) {
  if (!c.plain.visible) return;
  const AttendShape& s = c.shape();
  Arrays<double> in = c.in;
  bool zero = true, any = false;
  for (int b = 0; b < s.batch_size; ++b) {
    for (int g = 0; g < s.num_kv_heads; ++g) {
      for (int j = 0; j < s.num_keys; ++j) {
        bool seen = false;
        for (int h = g * s.group(); h < (g + 1) * s.group(); ++h) {
          for (int i = 0; i < s.num_queries; ++i) seen = seen || c.plain.visible(b, h, i, j);
        }
        if (seen) continue;
        any = true;
        const std::size_t row = std::size_t((b * s.num_kv_heads + g) * s.num_keys + j);
        for (const auto& [array, width] : {std::pair{1, s.key_dim}, {2, s.value_dim}}) {
          for (int d = 0; d < width; ++d) {
            const std::size_t at = row * std::size_t(width) + std::size_t(d);
            in[std::size_t(array)][at] = std::numeric_limits<double>::quiet_NaN();
            zero = zero && run.gradient[std::size_t(array)][at] == 0;
          }
        }
      }
    }
  }
  if (!any) return;
  if (!zero) judge.fails("a key that no query sees has a gradient");
  const ToyResult<double> with_nan = run_public<double>(c, in);
  bool same = same_bits(with_nan.out, run.out);
  for (std::size_t a = 0; a < in.size(); ++a) same = same && same_bits(with_nan.gradient[a], run.gradient[a]);
  if (!same) judge.fails("NaN in keys that no query sees changes a result");
}

void check_mask(StageReport& report, const AnyMask& mask, const PlainStages& plain, const AttendShape& shape) {
  Judge judge(report, fmt::format("{} queries, {} keys", shape.num_queries, shape.num_keys));
  const int offset = shape.num_keys - shape.num_queries;
  for (const auto& [most_queries, most_keys] : {std::pair{64, 64}, {5, 7}, {1, 256}}) {
    for (int b = 0; b < shape.batch_size; ++b) {
      for (int h = 0; h < shape.num_heads; ++h) {
        for (int q = 0; q < shape.num_queries; q += most_queries) {
          Area all{&shape,         b,     h, h / shape.group(), q, std::min(most_queries, shape.num_queries - q), 0,
                   shape.num_keys, offset};
          const Range range = mask->keys(all);
          for (int k = 0; k < shape.num_keys; k += most_keys) {
            Area area = all;
            area.key = k;
            area.keys = std::min(most_keys, shape.num_keys - k);
            const Cover cover = mask->cover(area);
            std::uint64_t bits[256] = {};
            mask->visible(area, bits);
            for (int j = 0; j < area.keys; ++j) {
              for (int i = 0; i < area.queries; ++i) {
                const bool sees = plain.mask({&shape, b, h, area.kv_head, q + i, k + j, offset});
                const auto wrong = [&](const char* what) {
                  judge.fails(fmt::format("{} of {} x {} pairs is wrong at query {}, key {}, position {}", what,
                                          area.queries, area.keys, q + i, k + j, q + i + offset));
                };
                if (sees != bool(bits[j] >> i & 1)) return wrong("visible()");
                if (sees && (k + j < range.begin || k + j >= range.end)) return wrong("keys()");
                if (cover == (sees ? Cover::none : Cover::full)) return wrong("cover()");
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace attune::checking

// Decoding: one query token, 32 query heads over 8 heads of keys and values of width 128, 8192 tokens of past. Its
// bound is reading keys and values once, so GFLOP/s matter little: the share is of the rate at which memory is read,
// for the bytes that the stored type takes. runner.hpp says which options there are.
//
//   array   attend_forward on keys and values in one array each (huge pages, as tensors have)
//   paged   attend_forward on a cache with blocks of 64 tokens, queries in float32
//   half    the same with queries in bfloat16
//   rotary  paged, and the cache turns each key once, when it comes: each call turns one query
//   turned  the same without the cache's help: each call turns all keys
//   short   the same with 256 tokens of past: what a call costs beside reading
//   batch   16 sequences of 512 tokens
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/rng.hpp"
#include "runner.hpp"

namespace {
using namespace attune;

struct Past {
  std::string name;
  int batch, tokens;
};
constexpr int kHeads = 32, kKeyHeads = 8, kWidth = 128;

/// Uniform numbers from -1 to 1 in huge pages.
struct Array {
  bench::detail::HugeFloats memory;
  View view;
  Array(DType dtype, const Shape& shape, std::uint64_t seed)
      : memory(bench::detail::huge_floats(std::size_t(shape.size()) * size_of(dtype) / sizeof(float) + 1)),
        view(memory.get(), dtype, shape) {
    Generator g(seed);
    std::vector<float> row(std::size_t(shape.back()));
    for (std::int64_t i = 0; i < shape.size() / shape.back(); ++i) {
      for (float& x : row) x = float(g.uniform(-1, 1));
      convert(DType::float32, row.data(), dtype,
              static_cast<std::byte*>(view.data) + i * shape.back() * std::int64_t(size_of(dtype)), shape.back());
    }
  }
};

bench::Row row_of(const Past& p, const std::string& variant, std::string_view dtype, double number_bytes) {
  bench::Row row;
  row.shape = p.name;
  row.extents = {p.batch, kHeads, kKeyHeads, 1, p.tokens, kWidth};
  row.pass = "decode";
  row.variant = variant;
  row.dtype = std::string(dtype);
  const double pairs = double(p.batch) * kHeads * p.tokens, rows = 2.0 * p.batch * kKeyHeads * p.tokens;
  row.flops = 4 * pairs * kWidth;
  row.bytes = rows * (kWidth * number_bytes + (number_bytes == 1 ? 4 : 0));
  row.ceiling = bench::Ceiling::memory;
  return row;
}

bench::Row array_row(const Past& p, DType dtype) {
  struct Arrays {
    Array query, key, value, out;
  };
  bench::Row row = row_of(p, "array", name_of(dtype), double(size_of(dtype)));
  row.prepare = [p, dtype] {
    const Shape one{p.batch, kHeads, 1, kWidth}, past{p.batch, kKeyHeads, p.tokens, kWidth};
    auto a = std::make_shared<Arrays>(Arrays{{dtype, one, 1}, {dtype, past, 2}, {dtype, past, 3}, {dtype, one, 4}});
    return bench::Call([a] { attend_forward({a->query.view, a->key.view, a->value.view, {}}, {.out = a->out.view}); });
  };
  return row;
}

/// Who turns the keys of a rotary position.
enum class Turned { nobody, cache, call };

bench::Row paged_row(const Past& p, CacheType type, DType queries, Turned turned = Turned::nobody) {
  struct Filled {
    KvCache cache;
    std::vector<int> sequences;
    Array query, out;
  };
  const double bytes = type == CacheType::float32 ? 4 : type == CacheType::int8 ? 1 : 2;
  const std::string variant = turned == Turned::cache     ? "rotary"
                              : turned == Turned::call    ? "turned"
                              : queries == DType::float32 ? "paged"
                                                          : "half";
  bench::Row row = row_of(p, variant, name_of(type), bytes);
  row.prepare = [p, type, queries, turned] {
    const Shape one{p.batch, kHeads, 1, kWidth}, some{p.batch, kKeyHeads, 64, kWidth};
    KvCacheOptions cache{.num_kv_heads = kKeyHeads, .head_dim = kWidth, .type = type};
    AttendOptions call;
    if (turned == Turned::cache) cache.position = Rotary{};
    if (turned == Turned::call) call.position = Rotary{};
    auto f = std::make_shared<Filled>(Filled{KvCache(cache), {}, {queries, one, 1}, {queries, one, 4}});
    for (int b = 0; b < p.batch; ++b) f->sequences.push_back(f->cache.add());
    for (int t = 0; t < p.tokens; t += 64) {
      const Array key(DType::float32, some, std::uint64_t(2 * t + 2)),
          value(DType::float32, some, std::uint64_t(2 * t + 3));
      f->cache.append(f->sequences, key.view, value.view);
    }
    return bench::Call(
        [f, call] { attend_forward(f->query.view, f->cache, f->sequences, {.out = f->out.view}, call); });
  };
  return row;
}
}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("decode_bench");
  for (const Past& p : {Past{"F", 1, 8192}, Past{"short", 1, 256}, Past{"batch", 16, 512}}) {
    for (DType dtype : {DType::float32, DType::bfloat16, DType::float16}) rows.add(array_row(p, dtype));
    for (CacheType type : {CacheType::float32, CacheType::bfloat16, CacheType::float16, CacheType::int8})
      rows.add(paged_row(p, type, DType::float32));
    for (CacheType type : {CacheType::bfloat16, CacheType::int8}) rows.add(paged_row(p, type, DType::bfloat16));
    for (Turned turned : {Turned::cache, Turned::call})
      rows.add(paged_row(p, CacheType::float32, DType::float32, turned));
  }
  return rows.run(argc, argv);
}

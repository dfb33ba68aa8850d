// The pool of blocks, and what sequences do with it. See kv_cache.hpp.
#include "attune/attention/kv_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "attention/kv_store.hpp"
#include "attune/attention/apply_position.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune {
namespace {

constexpr std::size_t kPage = std::size_t(2) << 20;  // bytes of a huge page: the start of every slab

std::int64_t number_bytes(CacheType type) { return type == CacheType::float32 ? 4 : type == CacheType::int8 ? 1 : 2; }
DType dtype_of_cache(CacheType type) {
  return type == CacheType::bfloat16 ? DType::bfloat16 : type == CacheType::float16 ? DType::float16 : DType::float32;
}

/// Integers of one row and their scale.
void quantize(const float* row, int n, std::int8_t* to, float* scale) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(row[i]));
  *scale = largest / 127;
  const float inverse = *scale > 0 ? 1 / *scale : 0;  // a row so small that its scale is 0 is stored as zeros
  for (int i = 0; i < n; ++i) {
    to[i] = std::int8_t(std::clamp(std::nearbyint(std::isfinite(inverse) ? row[i] * inverse : 0.f), -127.f, 127.f));
  }
}

void check_rows(const char* function, const char* name, const ConstView& v, const Shape& shape) {
  if (!(v.shape == shape)) fail(function, fmt::format("{} {}", name, shape.text()), "got " + v.shape.text());
  if (v.empty() && shape.size() > 0) fail(function, fmt::format("memory for {}", name), "got none");
  if (shape.back() > 1 && v.strides[std::size_t(shape.rank() - 1)] != 1) {
    fail(function, fmt::format("{} with a contiguous last dimension", name),
         fmt::format("got stride {}", v.strides[std::size_t(shape.rank() - 1)]));
  }
}

/// Row t of head h of batch entry n, in the view's own type.
const std::byte* row_of(const ConstView& v, std::int64_t n, std::int64_t h, std::int64_t t) {
  return static_cast<const std::byte*>(v.data) +
         (n * v.strides[0] + h * v.strides[1] + t * v.strides[2]) * std::int64_t(size_of(v.dtype));
}

bool all_finite(const ConstView& v) {
  std::vector<float> row(std::size_t(v.shape[3]));
  for (std::int64_t n = 0; n < v.shape[0]; ++n) {
    for (std::int64_t h = 0; h < v.shape[1]; ++h) {
      for (std::int64_t t = 0; t < v.shape[2]; ++t) {
        convert(v.dtype, row_of(v, n, h, t), DType::float32, row.data(), v.shape[3]);
        if (!std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); })) return false;
      }
    }
  }
  return true;
}

}  // namespace

std::string_view name_of(CacheType type) {
  return type == CacheType::int8 ? std::string_view("int8") : name_of(dtype_of_cache(type));
}

void KvCache::Store::Free::operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(kPage)); }

KvCache::Store::Store(const KvCacheOptions& o) : options(o) {
  constexpr const char* kFunction = "KvCache";
  if (options.value_dim == 0) options.value_dim = options.head_dim;
  if (o.num_kv_heads < 1 || o.head_dim < 1 || options.value_dim < 1) {
    fail(kFunction, "at least one head and widths of 1 or more",
         fmt::format("got {} heads of widths {} and {}", o.num_kv_heads, o.head_dim, options.value_dim));
  }
  if (o.block_tokens < 16 || o.block_tokens > 256 || o.block_tokens % 16 != 0) {
    fail(kFunction, "blocks of 16 to 256 tokens, a multiple of 16", fmt::format("got {}", o.block_tokens));
  }
  if (o.max_blocks < 0 || o.max_blocks > std::numeric_limits<int>::max()) {
    fail(kFunction, "max_blocks from 0 to 2^31 - 1", fmt::format("got {}", o.max_blocks));
  }
  if (o.position) expect_lasting_position(kFunction, o.position, o.num_kv_heads, o.head_dim);
  const std::ptrdiff_t rows = std::ptrdiff_t(o.num_kv_heads) * o.block_tokens;
  const auto aligned = [](std::ptrdiff_t bytes) { return (bytes + 63) / 64 * 64; };
  number = number_bytes(o.type);
  values = aligned(rows * o.head_dim * number);
  key_scales = values + aligned(rows * options.value_dim * number);
  value_scales = key_scales + (o.type == CacheType::int8 ? rows * 4 : 0);
  block_bytes = value_scales + (o.type == CacheType::int8 ? rows * 4 : 0);
  blocks_per_slab = std::max<std::int64_t>(1, 2 * std::int64_t(kPage) / block_bytes);
  if (o.max_blocks > 0) blocks_per_slab = std::min(blocks_per_slab, o.max_blocks);
}

const KvCache::Store::Sequence& KvCache::Store::at(const char* function, int sequence) const {
  if (sequence < 0 || std::size_t(sequence) >= sequences.size() || !sequences[std::size_t(sequence)].alive) {
    fail(function, "the number of a sequence that add() or fork() made", fmt::format("got {}", sequence));
  }
  return sequences[std::size_t(sequence)];
}

void KvCache::Store::expect_room(const char* function, std::int64_t more) const {
  if (options.max_blocks > 0 && in_use + more > options.max_blocks) {
    fail(function, fmt::format("{} free blocks", more), fmt::format("{} of {} are in use", in_use, options.max_blocks));
  }
}

int KvCache::Store::take() {
  if (unused.empty()) {
    const std::size_t bytes = std::size_t(blocks_per_slab) * std::size_t(block_bytes);
    std::unique_ptr<std::byte[], Free> slab(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t(kPage))));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(slab.get(), bytes, MADV_HUGEPAGE);  // decoding is bound by reading: a fifth faster; no harm if refused
#endif
    std::memset(slab.get(), 0, bytes);
    const std::size_t total = blocks.size() + std::size_t(blocks_per_slab);
    blocks.reserve(total), holders.reserve(total), unused.reserve(total), slabs.reserve(slabs.size() + 1);
    for (std::int64_t i = blocks_per_slab; i-- > 0;) unused.push_back(int(blocks.size() + std::size_t(i)));
    for (std::int64_t i = 0; i < blocks_per_slab; ++i) blocks.push_back(slab.get() + i * block_bytes);
    holders.resize(total, 0);
    slabs.push_back(std::move(slab));
  }
  const int block = unused.back();
  unused.pop_back();
  holders[std::size_t(block)] = 1;
  ++in_use;
  return block;
}

void KvCache::Store::give_back(int block) {
  if (--holders[std::size_t(block)] > 0) return;
  unused.push_back(block);
  --in_use;
}

KvCache::KvCache(const KvCacheOptions& o) : store_(std::make_unique<Store>(o)) {}
KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

int KvCache::add() {
  Store& s = *store_;
  int id;
  if (s.removed.empty()) {
    id = int(s.sequences.size());
    s.sequences.emplace_back();
  } else {
    id = s.removed.back();
    s.removed.pop_back();
  }
  s.sequences[std::size_t(id)] = {.alive = true};
  return id;
}

int KvCache::fork(int sequence) {
  store_->at("KvCache::fork", sequence);
  const int id = add();
  Store& s = *store_;
  s.sequences[std::size_t(id)] = s.sequences[std::size_t(sequence)];
  for (int block : s.sequences[std::size_t(id)].blocks) ++s.holders[std::size_t(block)];
  return id;
}

void KvCache::remove(int sequence) {
  Store& s = *store_;
  Store::Sequence& one = s.at("KvCache::remove", sequence);
  for (int block : one.blocks) s.give_back(block);
  one = {};
  s.removed.push_back(sequence);
}

void KvCache::truncate(int sequence, std::int64_t tokens) {
  Store& s = *store_;
  Store::Sequence& one = s.at("KvCache::truncate", sequence);
  if (tokens < 0 || tokens > one.length) {
    fail("KvCache::truncate", fmt::format("0 to {} tokens", one.length), fmt::format("got {}", tokens));
  }
  const std::size_t keep = std::size_t((tokens + s.options.block_tokens - 1) / s.options.block_tokens);
  for (std::size_t i = keep; i < one.blocks.size(); ++i) s.give_back(one.blocks[i]);
  one.blocks.resize(keep);
  one.length = tokens;
}

void KvCache::append(std::span<const int> sequences, const ConstView& raw_key, const ConstView& value) {
  constexpr const char* kFunction = "KvCache::append";
  Store& s = *store_;
  const KvCacheOptions& o = s.options;
  const auto n = std::int64_t(sequences.size());
  const std::int64_t tokens = raw_key.shape.rank() == 4 ? raw_key.shape[2] : 0;
  check_rows(kFunction, "key", raw_key, {n, o.num_kv_heads, tokens, o.head_dim});
  check_rows(kFunction, "value", value, {n, o.num_kv_heads, tokens, o.value_dim});
  std::int64_t more = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Store::Sequence& one = s.at(kFunction, sequences[i]);
    if (std::find(sequences.begin(), sequences.begin() + std::ptrdiff_t(i), sequences[i]) !=
        sequences.begin() + std::ptrdiff_t(i)) {
      fail(kFunction, "sequences that differ", fmt::format("got {} twice", sequences[i]));
    }
    if (one.length + tokens > std::numeric_limits<int>::max() / 2) {
      fail(kFunction, fmt::format("at most {} tokens in a sequence", std::numeric_limits<int>::max() / 2),
           fmt::format("got {} beside {}", tokens, one.length));
    }
    const bool shared = tokens > 0 && one.length % o.block_tokens != 0 && s.holders[std::size_t(one.blocks.back())] > 1;
    more += (one.length + tokens + o.block_tokens - 1) / o.block_tokens - std::int64_t(one.blocks.size()) + shared;
  }
  ConstView key = raw_key;
  std::vector<float> placed;
  if (o.position && tokens > 0) {
    std::vector<int> first;
    for (int id : sequences) first.push_back(int(s.sequences[std::size_t(id)].length));
    placed.resize(std::size_t(key.shape.size()));
    apply_position(o.position, Side::key, raw_key, first, View(placed.data(), key.shape));
    key = ConstView(placed.data(), key.shape);
  }
  if (o.type == CacheType::int8 && !(all_finite(key) && all_finite(value))) {
    fail(kFunction, "finite numbers where int8 is stored", "got NaN or infinity");
  }
  s.expect_room(kFunction, more);
  if (tokens == 0) return;

  for (int id : sequences) {
    Store::Sequence& one = s.sequences[std::size_t(id)];
    if (one.length % o.block_tokens != 0 && s.holders[std::size_t(one.blocks.back())] > 1) {
      const int copy = s.take();  // somebody else reads the last block
      std::memcpy(s.blocks[std::size_t(copy)], s.blocks[std::size_t(one.blocks.back())], std::size_t(s.block_bytes));
      s.give_back(one.blocks.back());
      one.blocks.back() = copy;
    }
    while (std::int64_t(one.blocks.size()) * o.block_tokens < one.length + tokens) one.blocks.push_back(s.take());
  }

  const auto write = [&](std::int64_t i) {
    const std::int64_t b = i / o.num_kv_heads, h = i % o.num_kv_heads;
    const Store::Sequence& one = s.sequences[std::size_t(sequences[std::size_t(b)])];
    std::vector<float> row(std::size_t(std::max(o.head_dim, o.value_dim)));
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t at = one.length + t, place = h * o.block_tokens + at % o.block_tokens;
      std::byte* block = s.blocks[std::size_t(one.blocks[std::size_t(at / o.block_tokens)])];
      const auto put = [&](const ConstView& from, int dim, std::byte* numbers, std::byte* scales) {
        std::byte* to = numbers + place * dim * s.number;
        if (o.type != CacheType::int8)
          return convert(from.dtype, row_of(from, b, h, t), dtype_of_cache(o.type), to, dim);
        convert(from.dtype, row_of(from, b, h, t), DType::float32, row.data(), dim);
        quantize(row.data(), dim, reinterpret_cast<std::int8_t*>(to), reinterpret_cast<float*>(scales) + place);
      };
      put(key, o.head_dim, block, block + s.key_scales);
      put(value, o.value_dim, block + s.values, block + s.value_scales);
    }
  };
  constexpr std::int64_t kAlone = 1 << 15;  // numbers up to which waking other threads costs more
  const std::int64_t heads = n * o.num_kv_heads;
  if (heads * tokens * (o.head_dim + o.value_dim) <= kAlone) {
    for (std::int64_t i = 0; i < heads; ++i) write(i);
  } else {
    parallel_for(heads, write);
  }
  for (int id : sequences) s.sequences[std::size_t(id)].length += tokens;
}

void KvCache::read(int sequence, std::int64_t first, const View& key, const View& value) const {
  constexpr const char* kFunction = "KvCache::read";
  const Store& s = *store_;
  const KvCacheOptions& o = s.options;
  const Store::Sequence& one = s.at(kFunction, sequence);
  const std::int64_t tokens = key.shape.rank() == 3 ? key.shape[1] : 0;
  check_rows(kFunction, "key", key, {o.num_kv_heads, tokens, o.head_dim});
  check_rows(kFunction, "value", value, {o.num_kv_heads, tokens, o.value_dim});
  if (key.dtype != DType::float32 || value.dtype != DType::float32) {
    fail(kFunction, "views of float32", fmt::format("got {} and {}", name_of(key.dtype), name_of(value.dtype)));
  }
  if (first < 0 || first + tokens > one.length) {
    fail(kFunction, fmt::format("tokens within {}", one.length), fmt::format("got {} from {} on", tokens, first));
  }
  parallel_for(o.num_kv_heads, [&](std::int64_t h) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t at = first + t, place = h * o.block_tokens + at % o.block_tokens;
      const std::byte* block = s.blocks[std::size_t(one.blocks[std::size_t(at / o.block_tokens)])];
      const auto get = [&](const View& to, int dim, const std::byte* numbers, const std::byte* scales) {
        float* row = static_cast<float*>(to.data) + h * to.strides[0] + t * to.strides[1];
        const std::byte* from = numbers + place * dim * s.number;
        if (o.type != CacheType::int8) return convert(dtype_of_cache(o.type), from, DType::float32, row, dim);
        const float scale = reinterpret_cast<const float*>(scales)[place];
        for (int d = 0; d < dim; ++d) row[d] = scale * float(reinterpret_cast<const std::int8_t*>(from)[d]);
      };
      get(key, o.head_dim, block, block + s.key_scales);
      get(value, o.value_dim, block + s.values, block + s.value_scales);
    }
  });
}

const KvCacheOptions& KvCache::options() const { return store_->options; }
std::int64_t KvCache::length(int sequence) const { return store_->at("KvCache::length", sequence).length; }
int KvCache::num_sequences() const { return int(store_->sequences.size() - store_->removed.size()); }
std::int64_t KvCache::blocks_in_use() const { return store_->in_use; }
std::int64_t KvCache::block_bytes() const { return store_->block_bytes; }
std::int64_t KvCache::bytes() const {
  return std::int64_t(store_->slabs.size()) * store_->blocks_per_slab * store_->block_bytes;
}

}  // namespace attune

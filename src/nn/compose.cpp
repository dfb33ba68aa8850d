// Checks and small operators of composed modules.
#include "nn/compose.hpp"

#include <cstring>
#include <string>

#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/call_mask.hpp"

namespace attune::nn {

AnyMask CallMask::with(const AnyMask& own) const {
  AnyMask all = own & mask;
  return valid_keys.empty() ? all : all & AnyMask(Padding{valid_keys});
}

namespace detail {

void check_positive(std::string_view function,
                    std::initializer_list<std::pair<std::string_view, std::int64_t>> extents) {
  std::string names, values;
  bool fits = true;
  for (const auto& [name, value] : extents) {
    names += (names.empty() ? "" : ", ") + std::string(name);
    values += (values.empty() ? "" : ", ") + std::to_string(value);
    fits = fits && value >= 1;
  }
  if (!fits) fail(function, names + " of at least 1", "got " + values);
}

void check_tokens(std::string_view function, std::string_view what, const Tensor& x, std::int64_t width) {
  if (!x.defined() || x.rank() != 3 || x.shape()[2] != width) {
    fail(function, std::string(what) + " [B, T, " + std::to_string(width) + "]",
         x.defined() ? "got " + x.shape().text() : "got an undefined tensor");
  }
}

void check_valid(std::string_view function, const std::vector<int>& valid, std::int64_t batch, std::int64_t tokens) {
  if (valid.empty()) return;
  const std::string expectation = std::to_string(batch) + " lengths in 0 .. " + std::to_string(tokens);
  if (std::int64_t(valid.size()) != batch) fail(function, expectation, "got " + std::to_string(valid.size()));
  for (int n : valid) {
    if (n < 0 || n > tokens) fail(function, expectation, "got " + std::to_string(n));
  }
}

void fill_kv_heads(std::string_view function, std::int64_t num_heads, std::int64_t& num_kv_heads) {
  if (num_kv_heads == 0) num_kv_heads = num_heads;
  if (num_heads < 1 || num_kv_heads < 1 || num_heads % num_kv_heads != 0) {
    fail(function, "num_heads that is a multiple of num_kv_heads",
         "got " + std::to_string(num_heads) + " and " + std::to_string(num_kv_heads));
  }
}

void fill_head_dim(std::string_view function, std::int64_t width, std::int64_t parts, std::int64_t& head_dim) {
  if (head_dim != 0) return;
  if (width % parts != 0) {
    fail(function, "a model_dim that is a multiple of " + std::to_string(parts) + ", or a head_dim",
         "got " + std::to_string(width));
  }
  head_dim = width / parts;
}

void check_no_parameters(std::string_view function, const AttendOptions& options, std::int64_t num_heads,
                         std::int64_t num_kv_heads, std::int64_t head_dim) {
  AttendShape shape;
  shape.batch_size = shape.num_queries = shape.num_keys = 1;
  shape.num_heads = int(num_heads);
  shape.num_kv_heads = int(num_kv_heads);
  shape.query_dim = shape.key_dim = shape.value_dim = int(head_dim);
  const std::vector<AttendParameter> learned = attend_parameters(options, shape);
  if (!learned.empty()) {
    fail(function, "stages without learned arrays", "got " + learned[0].stage + ", which learns " + learned[0].name);
  }
}

Tensor stacked_parameter(std::initializer_list<std::int64_t> rows, std::int64_t in, const Initializer& init) {
  std::int64_t all = 0;
  for (std::int64_t n : rows) all += n;
  Tensor weight = Tensor::empty({all, in});
  std::int64_t first = 0;
  for (std::int64_t n : rows) {
    Tensor part = slice(weight, 0, first, first + n);  // shares the memory
    initialize(part, init, default_generator());
    first += n;
  }
  return weight;
}

namespace {

/// Bytes of the rows 0 .. valid[b]-1 of each entry from `from` to `to`; zeros after them.
void copy_valid(const Tensor& from, Tensor& to, const std::vector<int>& valid) {
  const std::int64_t batch = from.shape()[0];
  const auto entry = std::size_t(from.size() / batch) * size_of(from.dtype());
  const std::size_t row = entry / std::size_t(from.shape()[1]);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::size_t kept = std::size_t(valid[std::size_t(b)]) * row, at = std::size_t(b) * entry;
    char* target = static_cast<char*>(to.raw()) + at;
    std::memcpy(target, static_cast<const char*>(from.raw()) + at, kept);
    std::memset(target + kept, 0, entry - kept);
  }
}

}  // namespace

Tensor without_padding(const Tensor& x, const std::vector<int>& valid) {
  if (valid.empty() || x.size() == 0) return x;
  check_valid("without_padding", valid, x.shape()[0], x.shape()[1]);
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  copy_valid(x, y, valid);
  // y = x where valid, else 0: dx = dy where valid, else 0.
  record("without_padding", y, {x}, [valid](Backward& b) {
    const Tensor dy = b.dout();
    Tensor dx = Tensor::empty(dy.shape(), dy.dtype());
    copy_valid(dy, dx, valid);
    b.give(0, dx);
  });
  return y;
}

Tensor for_each_entry(const Tensor& x, std::int64_t batch) {
  const Ids first(std::vector<std::int32_t>(std::size_t(batch), 0));
  return take_rows(reshape(x, {1, x.shape()[0], x.shape()[1]}), first);
}

}  // namespace detail
}  // namespace attune::nn

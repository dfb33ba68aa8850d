// The cases of ONNX `Attention` (opsets 23 to 25), as tools/make_onnx_golden.py took them from the package: every one
// of them is a call of attend. What the operator adds around it (splitting [B, T, H * D], joining a past) is done here.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/io/safetensors.hpp"

namespace attune {
namespace {

/// An array of the file, in float32 for floating types.
struct Array {
  Shape shape;
  io::StoredType type = io::StoredType::float32;
  std::vector<float> numbers;
  std::vector<std::byte> bytes;  // as stored
};

class Case {
 public:
  Case(const io::SafetensorsReader& file, const std::string& name)
      : file_(file), name_(name), attributes_(nlohmann::json::parse(file.metadata().at(name))) {}

  std::optional<Array> array(const std::string& role) const {
    const std::string name = name_ + "/" + role;
    if (!file_.contains(name)) return {};
    const auto& item = file_.item(name);
    Array a{item.shape, item.type, {}, std::vector<std::byte>(item.bytes)};
    file_.read(name, a.bytes.data());
    a.numbers.resize(std::size_t(item.shape.size()));
    if (item.type == io::StoredType::int32) {
      for (std::size_t i = 0; i < a.numbers.size(); ++i)
        a.numbers[i] = float(reinterpret_cast<const std::int32_t*>(a.bytes.data())[i]);
    } else if (item.type == io::StoredType::int64) {
      for (std::size_t i = 0; i < a.numbers.size(); ++i)
        a.numbers[i] = float(reinterpret_cast<const std::int64_t*>(a.bytes.data())[i]);
    } else {
      file_.read(name, item.shape, DType::float32, a.numbers.data());
    }
    return a;
  }
  double number(const char* name, double otherwise) const {
    return attributes_.contains(name) ? attributes_[name].get<double>() : otherwise;
  }
  std::string text(const char* name) const { return attributes_.value(name, std::string()); }

 private:
  const io::SafetensorsReader& file_;
  std::string name_;
  nlohmann::json attributes_;
};

/// [B, H, T, D] numbers of the case's own dtype, from [B, H, T, D] or [B, T, H * D].
struct Heads {
  std::vector<std::byte> memory;
  ConstView view;
};
Heads heads_of(const Array& a, int heads) {
  Heads h{a.bytes, {}};
  const DType dtype = io::dtype_of(a.type);
  h.view =
      a.shape.rank() == 4
          ? ConstView(h.memory.data(), dtype, a.shape)
          : ConstView(h.memory.data(), dtype, {a.shape[0], a.shape[1], heads, a.shape[2] / heads}).transposed(1, 2);
  return h;
}
/// past [B, H, P, D] followed by `now` along the tokens, contiguous.
Heads join(const Heads& past, const Heads& now) {
  const Shape &p = past.view.shape, &n = now.view.shape;
  Heads r;
  const std::size_t size = size_of(now.view.dtype);
  r.memory.resize(std::size_t(n[0] * n[1] * (p[2] + n[2]) * n[3]) * size);
  std::byte* to = r.memory.data();
  for (std::int64_t b = 0; b < n[0]; ++b) {
    for (std::int64_t h = 0; h < n[1]; ++h) {
      for (const ConstView* v : {&past.view, &now.view}) {
        for (std::int64_t t = 0; t < v->shape[2]; ++t) {
          const std::int64_t at = b * v->strides[0] + h * v->strides[1] + t * v->strides[2];
          std::copy_n(static_cast<const std::byte*>(v->data) + std::size_t(at) * size, std::size_t(n[3]) * size, to);
          to += std::size_t(n[3]) * size;
        }
      }
    }
  }
  r.view = ConstView(r.memory.data(), now.view.dtype, {n[0], n[1], p[2] + n[2], n[3]});
  return r;
}

/// Equal, or within rtol 1e-3 and atol 1e-7 (float32), or within two units in the last place of the largest number
/// (halves).
void expect_close(const std::vector<float>& got, const std::vector<float>& want, io::StoredType type,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 0;
  for (float w : want) largest = std::isfinite(w) ? std::max(largest, std::fabs(double(w))) : largest;
  const double half = type == io::StoredType::float16    ? std::ldexp(1, -9)
                      : type == io::StoredType::bfloat16 ? std::ldexp(1, -6)
                                                         : 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;
    ASSERT_TRUE(std::isfinite(got[i]) && std::isfinite(want[i]))
        << what << " at " << i << ": got " << got[i] << ", want " << want[i];
    ASSERT_LE(std::fabs(double(got[i]) - double(want[i])), 1e-7 + 1e-3 * std::fabs(double(want[i])) + half * largest)
        << what << " at " << i << ": got " << got[i] << ", want " << want[i];
  }
}

/// The mask tensor's numbers broadcast to [B, H, Tq, Tk]; keys beyond its last extent are hidden.
struct FullMask {
  std::vector<float> added;
  std::vector<std::uint8_t> seen;
};
FullMask broadcast(const Array& m, bool boolean, const AttendShape& s) {
  FullMask f;
  const int rank = m.shape.rank();
  for (int b = 0; b < s.batch_size; ++b) {
    for (int h = 0; h < s.num_heads; ++h) {
      for (int i = 0; i < s.num_queries; ++i) {
        for (int j = 0; j < s.num_keys; ++j) {
          const int index[4] = {j, i, h, b};
          std::int64_t at = 0, step = 1;
          for (int axis = 0; axis < rank; ++axis) {
            const std::int64_t extent = m.shape.back(axis);
            at += axis > 0 && extent == 1 ? 0 : index[axis] * step;
            step *= extent;
          }
          const bool inside = rank == 0 || j < m.shape.back();
          const float x = inside ? m.numbers[std::size_t(at)] : 0;
          const bool seen = inside && (boolean ? x != 0 : x != -std::numeric_limits<float>::infinity());
          f.seen.push_back(seen);
          f.added.push_back(boolean || !seen ? 0 : x);
        }
      }
    }
  }
  return f;
}

void run(const Case& c, const std::string& name) {
  SCOPED_TRACE(name);
  const Array query_array = *c.array("query"), key_array = *c.array("key"), value_array = *c.array("value");
  const int q_heads = int(c.number("q_num_heads", 0)), kv_heads = int(c.number("kv_num_heads", 0));
  const Heads query = heads_of(query_array, q_heads);
  Heads key = heads_of(key_array, kv_heads), value = heads_of(value_array, kv_heads);
  int past = 0;
  if (const auto past_key = c.array("past_key")) {
    past = int(past_key->shape[2]);
    key = join(heads_of(*past_key, 0), key);
    value = join(heads_of(*c.array("past_value"), 0), value);
  }
  AttendShape s;
  s.batch_size = int(query.view.shape[0]), s.num_heads = int(query.view.shape[1]),
  s.num_queries = int(query.view.shape[2]);
  s.query_dim = int(query.view.shape[3]), s.num_kv_heads = int(key.view.shape[1]), s.num_keys = int(key.view.shape[2]);
  s.key_dim = int(key.view.shape[3]), s.value_dim = int(value.view.shape[3]);

  AttendOptions o;
  AttendInputs in{query.view, key.view, value.view, {}};
  if (const double scale = c.number("scale", 0)) o.score = ScaledDot{.scale = scale};
  if (const double cap = c.number("softcap", 0)) o.bias.push_back(SoftCap{.cap = cap});
  o.offset = {past};
  if (const auto valid = c.array("valid_keys")) {  // an external cache: it moves the diagonal
    std::vector<int> keys;
    o.offset.clear();
    for (float n : valid->numbers) {
      keys.push_back(int(n));
      o.offset.push_back(int(n) - s.num_queries);
    }
    o.mask = o.mask & AnyMask(Padding{keys});
  }
  if (c.number("is_causal", 0) != 0) o.mask = o.mask & AnyMask(Causal{});
  const Window window{.left = int(c.number("left_window_size", -1)), .right = int(c.number("right_window_size", -1))};
  if (window.left != -1 || window.right != -1) o.mask = o.mask & AnyMask(window);
  FullMask full;
  if (const auto mask = c.array("mask")) {
    const Shape everything{s.batch_size, s.num_heads, s.num_queries, s.num_keys};
    full = broadcast(*mask, c.text("mask_type") == "bool", s);
    o.mask = o.mask & AnyMask(DenseMask(full.seen.data(), everything));
    o.bias.push_back(Dense{.per = Per::batch_head});
    in.parameters.push_back(ConstView(full.added.data(), everything));
  }

  const Array want = *c.array("out");
  std::vector<std::byte> out(want.bytes.size());
  const View out_view = want.shape.rank() == 4 ? View(out.data(), io::dtype_of(want.type), want.shape)
                                               : View(out.data(), io::dtype_of(want.type),
                                                      {want.shape[0], want.shape[1], s.num_heads, s.value_dim})
                                                     .transposed(1, 2);
  std::vector<float> lse(std::size_t(s.batch_size) * s.num_heads * s.num_queries);
  const View lse_view(lse.data(), {s.batch_size, s.num_heads, s.num_queries});
  attend_forward(in, {.out = out_view, .lse = lse_view}, o);
  std::vector<float> got(want.numbers.size());
  convert(io::dtype_of(want.type), out.data(), DType::float32, got.data(), std::int64_t(got.size()));
  expect_close(got, want.numbers, want.type, "out");

  if (const auto map = c.array("map")) {
    const Exposed modes[] = {Exposed::scores, Exposed::logits, Exposed::masked, Exposed::probs};
    std::vector<float> exposed(map->numbers.size());
    const int mode = int(c.number("qk_matmul_output_mode", 0));
    attend_map(in, lse_view, View(exposed.data(), map->shape),
               {.exposed = modes[mode], .biases = c.number("softcap", 0) != 0 ? 1 : 0}, o);
    expect_close(exposed, map->numbers, map->type, "map of mode " + std::to_string(mode));
  }
}

TEST(Onnx, EveryAttentionCase) {
  const io::SafetensorsReader file(ATTUNE_SOURCE_DIR "/tests/golden/onnx_attention.safetensors");
  int cases = 0;
  for (const auto& [name, attributes] : file.metadata()) {
    if (name == "source") continue;
    run(Case(file, name), name);
    ++cases;
  }
  EXPECT_EQ(cases, 93);
}

}  // namespace
}  // namespace attune

// TensorBoard's event files, and the little of the protocol-buffer encoding that they need:
// a field is a varint (number << 3 | type), then its value; type 0 varint, 1 eight bytes, 2 a length and so many bytes,
// 5 four bytes, all little-endian.
#include "attune/io/tensorboard.hpp"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"

namespace attune::io {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? (c >> 1) ^ 0x82f63b78u : c >> 1;
    table[i] = c;
  }
  return table;
}

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

template <class T>
std::string bytes_of(T x) {
  return std::string(reinterpret_cast<const char*>(&x), sizeof x);
}
std::string varint(std::uint64_t x) {
  std::string out;
  for (; x >= 128; x >>= 7) out += char((x & 127) | 128);
  return out + char(x);
}
std::string field(int number, int type) { return varint(std::uint64_t(number) << 3 | std::uint64_t(type)); }
std::string text_field(int number, std::string_view text) {
  return field(number, 2) + varint(text.size()) + std::string(text);
}

/// wall_time = 1 (double), step = 2 (int64), then what the event is about.
std::string event(double wall_seconds, std::int64_t step, const std::string& content) {
  return field(1, 1) + bytes_of(wall_seconds) + field(2, 0) + varint(std::uint64_t(step)) + content;
}

/// Reads fields one after the other; a text that ends inside of one is an Error.
class Fields {
 public:
  explicit Fields(std::string_view data) : data_(data) {}
  bool next() {
    if (data_.empty()) return false;
    const std::uint64_t key = integer();
    number = int(key >> 3);
    switch (key & 7) {
      case 0:
        value = integer();
        break;
      case 1:
        text = take(8);
        break;
      case 2:
        text = take(integer());
        break;
      case 5:
        text = take(4);
        break;
      default:
        fail("read_tensorboard", "a field of a known type", fmt::format("type {}", key & 7));
    }
    return true;
  }
  int number = 0;
  std::uint64_t value = 0;
  std::string_view text;

 private:
  std::string_view take(std::uint64_t n) {
    if (n > data_.size()) fail("read_tensorboard", "a complete field", "the record ends inside of one");
    const std::string_view out = data_.substr(0, n);
    data_.remove_prefix(n);
    return out;
  }
  std::uint64_t integer() {
    std::uint64_t x = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      x |= std::uint64_t(byte & 127) << shift;
      if (byte < 128) return x;
    }
    fail("read_tensorboard", "an integer of at most ten bytes", "a longer one");
  }
  std::string_view data_;
};

template <class T>
T number_at(std::string_view data) {
  T x;
  std::memcpy(&x, data.data(), sizeof x);
  return x;
}

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc_table();
  std::uint32_t c = 0xffffffffu;
  for (const char byte : data) c = kTable[(c ^ static_cast<unsigned char>(byte)) & 255] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step,
                                     double wall_seconds) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail("TensorBoardWriter", fmt::format("a folder {}", folder.string()), error.message());
  // The reader takes files in the order of their names; two openings within a second must not share one.
  for (int again = 0;; ++again) {
    file_ = folder / fmt::format("events.out.tfevents.{:010}.attune{}", std::int64_t(wall_seconds),
                                 again ? fmt::format(".{}", again) : "");
    if (!std::filesystem::exists(file_)) break;
  }
  out_.open(file_, std::ios::binary);
  if (!out_)
    fail("TensorBoardWriter", fmt::format("a file {} that can be written", file_.string()), "it cannot be opened");
  record(event(wall_seconds, 0, text_field(3, "brain.Event:2")));
  // session_log = 7 {status = 1: START = 1}: events of earlier files from this step on are void.
  if (first_step > 0) record(event(wall_seconds, first_step, text_field(7, field(1, 0) + varint(1))));
}

void TensorBoardWriter::scalar(std::string_view tag, std::int64_t step, double value, double wall_seconds) {
  // summary = 5 {value = 1 {tag = 1, simple_value = 2}}
  const std::string content = text_field(1, text_field(1, tag) + field(2, 5) + bytes_of(float(value)));
  record(event(wall_seconds, step, text_field(5, content)));
}

void TensorBoardWriter::record(std::string_view data) {
  const std::string length = bytes_of(std::uint64_t(data.size()));
  out_ << length << bytes_of(masked(crc32c(length))) << data << bytes_of(masked(crc32c(data))) << std::flush;
  if (!out_) fail("TensorBoardWriter", fmt::format("room for a record in {}", file_.string()), "writing failed");
}

std::vector<TensorBoardScalar> read_tensorboard(const std::filesystem::path& file) {
  const std::string all = read_file(file);
  std::vector<TensorBoardScalar> out;
  std::string_view rest = all;
  while (rest.size() >= 12) {
    const auto length = number_at<std::uint64_t>(rest);
    if (number_at<std::uint32_t>(rest.substr(8)) != masked(crc32c(rest.substr(0, 8))))
      fail("read_tensorboard", fmt::format("records with right sums in {}", file.string()), "a damaged length");
    if (rest.size() - 12 < length || rest.size() - 12 - length < 4) break;
    const std::string_view data = rest.substr(12, length);
    if (number_at<std::uint32_t>(rest.substr(12 + length)) != masked(crc32c(data)))
      fail("read_tensorboard", fmt::format("records with right sums in {}", file.string()), "damaged data");
    rest.remove_prefix(16 + length);

    std::int64_t step = 0;
    std::string_view summary;
    for (Fields f(data); f.next();) {
      if (f.number == 2) step = std::int64_t(f.value);
      if (f.number == 5) summary = f.text;
    }
    for (Fields values(summary); values.next();) {
      TensorBoardScalar scalar{.tag = "", .step = step};
      for (Fields f(values.text); f.next();) {
        if (f.number == 1) scalar.tag = f.text;
        if (f.number == 2) scalar.value = number_at<float>(f.text);
      }
      out.push_back(std::move(scalar));
    }
  }
  return out;
}

}  // namespace attune::io

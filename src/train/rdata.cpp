// R's serialization, read from front to back. Every length is checked against the bytes that are left.
#include "attune/train/rdata.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

/// R's type numbers, of the items that data consists of.
enum RType : int {
  kSymbol = 1,
  kPairList = 2,
  kText = 9,
  kTruths = 10,
  kIntegers = 13,
  kDoubles = 14,
  kTexts = 16,
  kList = 19,
  kExpression = 20,
  kAltRep = 238,
  kBaseEnvironment = 241,
  kNull = 254,
  kReference = 255
};
constexpr int kDeepest = 64;  // items within items: data has a handful
constexpr std::int32_t kMissingInteger = std::numeric_limits<std::int32_t>::min();  // NA of integers and truths

[[noreturn]] void damaged_r(std::string_view finding) {
  fail("parse_r_object", "an R object, whole and sound", finding);
}

class RReader {
 public:
  explicit RReader(std::string_view bytes) : bytes_(bytes) {}

  RObject object() {
    if (take(2) != "X\n") damaged_r("it does not begin with \"X\" and a line break");
    const std::int32_t version = integer();
    if (version != 2 && version != 3) damaged_r(fmt::format("format version {}", version));
    integer(), integer();  // the R that wrote it, the oldest that reads it
    if (version == 3) take(length());
    return item(0);
  }

 private:
  std::string_view take(std::size_t n) {
    if (n > bytes_.size() - at_) damaged_r(fmt::format("it ends after {} bytes", bytes_.size()));
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }
  template <class U>
  U number() {
    U x = 0;
    for (const char byte : take(sizeof(U))) x = U(x << 8) | U(static_cast<unsigned char>(byte));
    return x;
  }
  std::int32_t integer() { return std::int32_t(number<std::uint32_t>()); }
  /// A count of elements, each of at least `bytes` bytes.
  std::size_t length(std::size_t bytes = 1) {
    const std::int32_t n = integer();
    if (n < 0 || std::size_t(n) > (bytes_.size() - at_) / bytes) damaged_r(fmt::format("a length of {}", n));
    return std::size_t(n);
  }

  /// What stands in front of an item.
  struct Flags {
    int type;
    bool attributes, tag;
    std::uint32_t above;  // the reference's number, where it is packed
  };
  Flags flags() {
    const auto word = number<std::uint32_t>();
    return {int(word & 255), (word >> 9 & 1) != 0, (word >> 10 & 1) != 0, word >> 8};
  }

  std::string text() {
    if (const Flags f = flags(); f.type != kText) damaged_r(fmt::format("type {} where a text belongs", f.type));
    const std::int32_t n = integer();
    if (n == -1) return "NA";
    if (n < 0) damaged_r(fmt::format("a text of {} bytes", n));
    return std::string(take(std::size_t(n)));
  }

  /// A symbol or a reference to one.
  std::string symbol(const Flags& f) {
    if (f.type == kSymbol) {
      symbols_.push_back(text());
      return symbols_.back();
    }
    if (f.type != kReference) damaged_r(fmt::format("type {} where a symbol belongs", f.type));
    const std::size_t which = f.above != 0 ? f.above : std::size_t(integer());
    if (which == 0 || which > symbols_.size()) damaged_r(fmt::format("a reference to symbol {}", which));
    return symbols_[which - 1];
  }

  /// Item after item until NULL; `f` stands in front of the first. A loop: a list may be long.
  void pair_list(RObject& list, Flags f, int depth) {
    list.kind = RObject::Kind::list;
    while (f.type == kPairList) {
      if (f.attributes) item(depth + 1);
      list.names.push_back(f.tag ? symbol(flags()) : "");
      list.items.push_back(item(depth + 1));
      f = flags();
    }
    if (f.type != kNull) damaged_r(fmt::format("type {} at the end of a list", f.type));
  }

  RObject item(int depth) { return item(flags(), depth); }
  RObject item(const Flags& f, int depth) {
    if (depth > kDeepest) damaged_r(fmt::format("more than {} lists within each other", kDeepest));
    RObject object;
    switch (f.type) {
      case kNull:
      case kBaseEnvironment:
        return object;
      case kSymbol:
      case kReference:
        object.kind = RObject::Kind::texts;
        object.texts.push_back(symbol(f));
        return object;
      case kPairList:
        pair_list(object, f, depth);
        return object;
      case kText:
        at_ -= 4;
        object.kind = RObject::Kind::texts;
        object.texts.push_back(text());
        return object;
      case kTruths:
      case kIntegers: {
        object.kind = RObject::Kind::numbers;
        for (std::size_t n = length(4); n > 0; --n) {
          const std::int32_t x = integer();
          object.numbers.push_back(x == kMissingInteger ? std::numeric_limits<double>::quiet_NaN() : double(x));
        }
        break;
      }
      case kDoubles:
        object.kind = RObject::Kind::numbers;
        for (std::size_t n = length(8); n > 0; --n)
          object.numbers.push_back(std::bit_cast<double>(number<std::uint64_t>()));
        break;
      case kTexts:
        object.kind = RObject::Kind::texts;
        for (std::size_t n = length(4); n > 0; --n) object.texts.push_back(text());
        break;
      case kList:
      case kExpression:
        object.kind = RObject::Kind::list;
        for (std::size_t n = length(4); n > 0; --n) object.items.push_back(item(depth + 1));
        break;
      case kAltRep:
        return compact(depth);
      default:
        damaged_r(fmt::format("an item of type {}, which is no data", f.type));
    }
    if (f.attributes) attributes(object, depth);
    return object;
  }

  void attributes(RObject& object, int depth) {
    RObject all;
    pair_list(all, flags(), depth);
    for (std::size_t i = 0; i < all.items.size(); ++i) {
      if (all.names[i] == "names") object.names = all.items[i].texts;
      object.attribute_names.push_back(all.names[i]);
      object.attributes.push_back(std::move(all.items[i]));
    }
  }

  /// ALTREP: a class, its state, attributes. Of the classes two are data: a run of numbers, and a wrapped vector.
  RObject compact(int depth) {
    const RObject about = item(depth + 1);
    RObject state = item(depth + 1);
    const RObject rest = item(depth + 1);
    const std::string name = about.items.empty() || about.items[0].texts.empty() ? "" : about.items[0].texts[0];
    RObject object;
    if (name.starts_with("compact_") && state.numbers.size() == 3) {  // length, first, step
      object.kind = RObject::Kind::numbers;
      if (!(state.numbers[0] >= 0 && state.numbers[0] <= 1e8)) damaged_r("a run of numbers without a length");
      for (double i = 0; i < state.numbers[0]; ++i) object.numbers.push_back(state.numbers[1] + i * state.numbers[2]);
    } else if (name.starts_with("wrap_") && !state.items.empty()) {
      object = std::move(state.items[0]);
    } else {
      damaged_r(fmt::format("a packed item of class \"{}\"", name));
    }
    for (std::size_t i = 0; i < rest.items.size(); ++i) {
      if (rest.names[i] == "names") object.names = rest.items[i].texts;
      object.attribute_names.push_back(rest.names[i]);
      object.attributes.push_back(rest.items[i]);
    }
    return object;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::vector<std::string> symbols_;
};

/// Unpacks gzip or zlib; `expected` bytes, or as many as there are (0).
std::string unpack(std::string_view packed, std::size_t expected, const fs::path& file) {
  const auto sound = [&](bool holds, std::string_view finding) {
    if (!holds) fail("RDatabase", fmt::format("a complete {}", file.string()), finding);
  };
  z_stream stream{};
  sound(inflateInit2(&stream, 15 + 32) == Z_OK, "no memory to unpack it");
  struct End {
    z_stream* stream;
    ~End() { inflateEnd(stream); }
  } const end{&stream};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = uInt(packed.size());
  std::string out;
  char block[1 << 16];
  int state = Z_OK;
  while (state == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(block);
    stream.avail_out = sizeof block;
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(block, sizeof block - stream.avail_out);
    sound(expected == 0 || out.size() <= expected, "a block that is longer than it says");
  }
  sound(state == Z_STREAM_END, "its packed bytes are cut off or damaged");
  sound(expected == 0 || out.size() == expected, "a block that is shorter than it says");
  return out;
}

}  // namespace

const RObject& RObject::at(std::string_view name) const {
  for (std::size_t i = 0; i < items.size() && i < names.size(); ++i)
    if (names[i] == name) return items[i];
  fail("RObject::at", fmt::format("a list with an item {}", name), fmt::format("{} other items", items.size()));
}

RObject parse_r_object(std::string_view bytes) { return RReader(bytes).object(); }

RDatabase::RDatabase(const fs::path& stem) : blocks_(stem.string() + ".rdb") {
  const fs::path index = stem.string() + ".rdx";
  const RObject read = parse_r_object(unpack(io::read_file(index), 0, index));
  const RObject& variables = read.at("variables");
  for (std::size_t i = 0; i < variables.items.size(); ++i) {
    const std::vector<double>& place = variables.items[i].numbers;
    if (i >= variables.names.size() || place.size() != 2 || !(place[0] >= 0) || !(place[1] >= 4) || place[0] > 1e15 ||
        place[1] > 4e9)
      fail("RDatabase", fmt::format("names with places in {}", index.string()), fmt::format("entry {} has none", i));
    names_.push_back(variables.names[i]);
    places_.emplace_back(std::uint64_t(place[0]), std::uint64_t(place[1]));
  }
}

RObject RDatabase::read(std::string_view name) const {
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (names_[i] != name) continue;
    std::error_code missing;
    const std::uint64_t there = fs::file_size(blocks_, missing);
    const bool inside = !missing && places_[i].first + places_[i].second <= there;
    std::ifstream in(blocks_, std::ios::binary);
    std::string block(inside ? std::size_t(places_[i].second) : 0, '\0');
    in.seekg(std::streamoff(places_[i].first));
    in.read(block.data(), std::streamsize(block.size()));
    if (!inside || !in)
      fail("RDatabase::read", fmt::format("{} to hold {}", blocks_.string(), name), "it is cut off or missing");
    std::size_t bytes = 0;
    for (int k = 0; k < 4; ++k) bytes = bytes << 8 | static_cast<unsigned char>(block[std::size_t(k)]);
    return parse_r_object(unpack(std::string_view(block).substr(4), bytes, blocks_));
  }
  fail("RDatabase::read", fmt::format("an object of {}", blocks_.string()), fmt::format("there is no {}", name));
}

}  // namespace attune::train

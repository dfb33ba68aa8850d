// R data as R would write it: objects byte by byte, and a lazy-load database of them.
#pragma once
#include <zlib.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attune/io/atomic_file.hpp"

namespace attune::train::testing_r {

/// R's serialization, the writing side.
struct Writer {
  std::string bytes;
  Writer& word(std::uint32_t x) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += char(x >> shift & 255);
    return *this;
  }
  Writer& real(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    return word(std::uint32_t(bits >> 32)).word(std::uint32_t(bits));
  }
  Writer& raw(std::string_view text) {
    bytes += text;
    return *this;
  }
  Writer& begin(std::uint32_t version = 3) {
    raw("X\n").word(version).word(0x40201).word(0x30500);
    if (version == 3) word(5).raw("UTF-8");
    return *this;
  }
  Writer& text(std::string_view t) { return word(9 | 64 << 12).word(std::uint32_t(t.size())).raw(t); }
  Writer& texts(std::initializer_list<std::string_view> all, bool attributes = false) {
    word(16 | (attributes ? 512 : 0)).word(std::uint32_t(all.size()));
    for (const std::string_view t : all) text(t);
    return *this;
  }
  Writer& names(std::initializer_list<std::string_view> all) {  // a pair list of one, tagged "names", and its end
    return word(2 | 1024).word(1).text("names").texts(all).word(254);
  }
};

inline std::string packed(const std::string& text) {
  std::string out(compressBound(uLong(text.size())), '\0');
  uLongf size = uLongf(out.size());
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(text.data()),
           uLong(text.size()));
  return out.substr(0, size);
}

/// A block of a .rdb file: one object.
inline std::string r_block(const Writer& object) {
  return Writer().word(std::uint32_t(object.bytes.size())).raw(packed(object.bytes)).bytes;
}

/// <stem>.rdx and <stem>.rdb of named blocks.
inline void write_r_database(const std::filesystem::path& stem,
                             const std::vector<std::pair<std::string, std::string>>& blocks) {
  std::string all;
  Writer index, names;
  index.begin().word(19 | 512).word(2);
  index.word(19 | 512).word(std::uint32_t(blocks.size()));  // variables: places by name
  names.word(16).word(std::uint32_t(blocks.size()));
  for (const auto& [name, block] : blocks) {
    index.word(13).word(2).word(std::uint32_t(all.size())).word(std::uint32_t(block.size()));
    names.text(name);
    all += block;
  }
  index.word(2 | 1024).word(1).text("names").raw(names.bytes).word(254);
  index.word(10).word(1).word(1);  // compressed
  index.word(2 | 1024).word(255 | 1 << 8).texts({"variables", "compressed"}).word(254);
  io::write_file(stem.string() + ".rdx", packed(index.bytes));
  io::write_file(stem.string() + ".rdb", all);
}

}  // namespace attune::train::testing_r

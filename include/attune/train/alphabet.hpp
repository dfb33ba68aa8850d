// Alphabet: characters as numbers. Number 0 is every character that the alphabet does not have; the others follow in
// the order of their code points.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace attune::train {

class Alphabet {
 public:
  static constexpr std::int32_t kUnknown = 0;

  /// All characters of a text. Throws Error for text that is empty or not UTF-8.
  static Alphabet of(std::string_view text);
  /// A file that holds each character once, in order.
  static Alphabet load(const std::filesystem::path& path);
  /// Written beside and renamed.
  void save(const std::filesystem::path& path) const;

  /// Characters, the unknown one included.
  std::int64_t size() const { return std::int64_t(characters_.size()) + 1; }
  /// One number a character. Throws Error for text that is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text) const;
  /// U+FFFD for the unknown character. Throws Error for a number outside the alphabet.
  std::string decode(std::span<const std::int32_t> ids) const;

 private:
  explicit Alphabet(std::vector<std::int32_t> characters) : characters_(std::move(characters)) {}
  std::vector<std::int32_t> characters_;  // code points, rising
};

}  // namespace attune::train

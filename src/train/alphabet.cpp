// Characters to numbers and back, by binary search.
#include "attune/train/alphabet.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/unicode.hpp"

namespace attune::train {

Alphabet Alphabet::of(std::string_view text) {
  std::set<std::int32_t> seen;
  unicode::for_each(text, [&](std::int32_t c, std::size_t, std::int64_t) { seen.insert(c); });
  if (seen.empty()) fail("Alphabet", "a text with a character", "it is empty");
  return Alphabet({seen.begin(), seen.end()});
}

Alphabet Alphabet::load(const std::filesystem::path& path) {
  const std::string text = io::read_file(path);
  if (unicode::first_invalid(text) >= 0) fail("Alphabet", fmt::format("UTF-8 in {}", path.string()), "other bytes");
  std::vector<std::int32_t> characters;
  unicode::for_each(text, [&](std::int32_t c, std::size_t, std::int64_t) {
    if (!characters.empty() && c <= characters.back())
      fail("Alphabet", fmt::format("characters in order in {}", path.string()), "they are not");
    characters.push_back(c);
  });
  if (characters.empty()) fail("Alphabet", fmt::format("characters in {}", path.string()), "there are none");
  return Alphabet(std::move(characters));
}

void Alphabet::save(const std::filesystem::path& path) const {
  std::string text;
  for (const std::int32_t c : characters_) unicode::append(text, c);
  io::write_file(path, text);
}

std::vector<std::int32_t> Alphabet::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size());
  unicode::for_each(text, [&](std::int32_t c, std::size_t, std::int64_t) {
    const auto found = std::lower_bound(characters_.begin(), characters_.end(), c);
    const bool known = found != characters_.end() && *found == c;
    ids.push_back(known ? std::int32_t(found - characters_.begin()) + 1 : kUnknown);
  });
  return ids;
}

std::string Alphabet::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= size())
      fail("Alphabet::decode", fmt::format("numbers of 0 to {}", size() - 1), fmt::format("{}", id));
    unicode::append(text, id == kUnknown ? 0xFFFD : characters_[std::size_t(id) - 1]);
  }
  return text;
}

}  // namespace attune::train

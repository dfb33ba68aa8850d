// The word that was probably meant: for messages about names that do not exist.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace attune {

/// Fewest insertions, deletions, replacements and exchanges of neighbours (each once a place) from one text to the
/// other, in bytes: the restricted Damerau-Levenshtein distance.
std::size_t edit_distance(std::string_view a, std::string_view b);
/// The known word with the smallest distance to `word`; the first of equals; "" if none is known.
std::string nearest(std::string_view word, std::span<const std::string> known);

}  // namespace attune

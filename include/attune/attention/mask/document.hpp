// Documents packed into one sequence: a token sees the tokens of its own document. Joined with Causal by & it is how
// language models are trained on packed texts ("The Llama 3 herd of models", arXiv:2407.21783, section 3.2).
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "attune/attention/stage.hpp"

namespace attune {

/// boundaries: of one batch entry for all, or of each. Document n of an entry has positions boundaries[n] ..
/// boundaries[n + 1] - 1; the boundaries rise. Positions before the first and from the last on are padding: they see
/// nothing and nobody sees them.
///
/// Cost    The pairs within documents; tiles between documents are never visited. Where keys and queries are packed
///         differently, or positions should start anew in each text, AttendOptions::sequences is the way.
struct Document {
  static constexpr std::string_view name = "document";
  static constexpr std::string_view source = "arXiv:2407.21783", cost = "the pairs within documents";
  static constexpr bool by_name = false;
  std::vector<std::vector<int>> boundaries;

  /// From the document of every token, ids [batch_size, tokens]: equal ids side by side are one document. Negative ids
  /// are padding, which may stand at both ends. Throws Error where a document goes on after another one or padding
  /// stands between documents.
  static Document from_ids(std::span<const int> ids, int batch_size = 1);

  void check(const AttendShape&) const;
  Range keys(const Area&) const;
  Cover cover(const Area&) const;
  void visible(const Area&, std::uint64_t* rows) const;
};

}  // namespace attune

// What a mask shows of a block of queries, cut into pieces that are dense: keys that the same strips of queries see,
// side by side or gathered from anywhere. What lies between is neither read nor multiplied.
#pragma once
#include <cstdint>
#include <span>

namespace attune::kernels {

/// Queries of a block are cut into strips of so many: the narrowest that all instruction sets have whole vectors for.
constexpr int kPieceStrip = 16;

/// Keys against the lanes first .. end-1 of the block, where a lane is a query. `first` is a multiple of kPieceStrip,
/// and so is `end`, or it is at least the number of queries.
struct PlainPiece {
  int key = 0, keys = 0;                // keys key .. key + keys - 1 ...
  const std::int32_t* rows = nullptr;   // ... or, if given, these [keys], rising
  int first = 0, end = 0;               // lanes
  const std::uint64_t* bits = nullptr;  // [keys]: bit i says that lane i sees the key; null: all these lanes see all
};

/// Says what blocks of queries see.
class PlainCut {
 public:
  virtual ~PlainCut() = default;
  /// Of keys first_key .. end_key-1, what queries query .. query + queries - 1 of the call's head see; no piece has
  /// more than `most` keys. Bits of lanes past `queries` are 1, and such as no piece's lanes hold are 0. Keys that none
  /// sees are in no piece. What is returned holds until the next call.
  virtual std::span<const PlainPiece> pieces(int head, int query, int queries, int first_key, int end_key,
                                             int most) = 0;
};

}  // namespace attune::kernels

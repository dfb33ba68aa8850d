// Shape: the extents of an array, up to rank 8, as a value without heap memory.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace attune {

/// Extents of an array, outermost first. Rank 0 is a scalar of size 1; an extent may be 0.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  /// Throws Error for a negative extent or more than kMaxRank of them.
  Shape(std::initializer_list<std::int64_t> extents);
  Shape(const std::int64_t* extents, int rank);

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return extents_[std::size_t(i)]; }
  /// Counts from the end: back() is the last extent, back(1) the one before.
  std::int64_t back(int from_end = 0) const { return extents_[std::size_t(rank_ - 1 - from_end)]; }
  std::int64_t size() const;
  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }

  /// The same shape with one extent changed; a negative index counts from the end.
  Shape with(int index, std::int64_t extent) const;
  /// "[2, 3, 4]".
  std::string text() const;

  friend bool operator==(const Shape& a, const Shape& b) { return a.rank_ == b.rank_ && a.extents_ == b.extents_; }

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace attune

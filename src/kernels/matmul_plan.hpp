// How a matrix product is cut: into blocks of columns, passes over k, tiles of c and tasks. Functions of the shape
// alone.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/matmul.hpp"

namespace attune::kernels {

constexpr std::int64_t kMostRowsOfDots = 8;              // above it, transposing b once is cheaper than dot products
constexpr std::int64_t kMostRowsInPlace = 16;            // above it, packing b pays
constexpr std::int64_t kTileRows = 96;                   // 16 blocks of 6
constexpr std::int64_t kGroupRows = 12;                  // rows of a transposed a that are copied side by side
constexpr std::int64_t kTileColumns = 256;               // of c where a is read in place
constexpr std::int64_t kInnerChunk = 512;                // k of a visit to a tile: a panel of 64 floats is 128 KiB
constexpr std::int64_t kPackedBytes = 4 << 20;           // of b at a time, shared by all threads
constexpr std::int64_t kSmallTask = 1 << 18;             // multiply-adds: about 5 microseconds of a core
constexpr std::int64_t kAloneProduct = 4 * kSmallTask;   // below it, waking other threads costs more than it saves
constexpr std::int64_t kLargeProduct = 64 * kSmallTask;  // from here on a product feeds all threads by itself

/// The least number of equal parts of n that are at most `most` long, as the length of a part: a multiple of `unit`.
inline std::int64_t even_part(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = std::max<std::int64_t>(1, (n + most - 1) / most);
  return std::max(unit, ((n + parts - 1) / parts + unit - 1) / unit * unit);
}

/// Few rows or columns under a transposed a, as in the gradient of a small weight: b is used too seldom for a copy.
template <class T>
bool reads_b_in_place(const Matmul<T>& p) {
  return p.transpose_a && !p.transpose_b && p.alpha == T(1) && (p.rows <= 128 || p.columns <= 128);
}

/// What is packed of b at a time. Passes over k are long, so that c is read and written again only where that is cheap
/// beside the product; what does not fit then is cut along the columns.
struct BlockCut {
  std::int64_t columns, inner;
};
inline BlockCut cut_blocks(std::int64_t columns, std::int64_t inner, std::int64_t panel_width,
                           std::size_t element_bytes) {
  const std::int64_t elements = kPackedBytes / std::int64_t(element_bytes), padded = std::max<std::int64_t>(1, columns);
  const std::int64_t pass = std::max(2 * kInnerChunk, elements / padded / kInnerChunk * kInnerChunk);
  BlockCut cut;
  cut.inner = std::max<std::int64_t>(1, std::min(inner, even_part(inner, pass, 16)));
  cut.columns = even_part(columns, std::max(kTileColumns, elements / cut.inner / kTileColumns * kTileColumns),
                          std::max(panel_width, kTileColumns / panel_width * panel_width));
  return cut;
}

struct TileCut {
  std::int64_t rows, columns;
};
/// A tile of c: its part of a, and a panel of b, stay in the second-level cache; smaller where that would make few
/// tasks, as long as a task is worth handing out. A transposed a is copied once for all columns of a tile, so such
/// tiles are wide and lose rows.
inline TileCut cut_tiles(std::int64_t rows, std::int64_t columns, std::int64_t inner, std::int64_t panel_width,
                         bool transpose_a) {
  const auto whole_panels = [=](std::int64_t n) { return std::max<std::int64_t>(1, n / panel_width) * panel_width; };
  if (transpose_a) {
    TileCut cut{std::clamp(even_part(rows, (rows + 15) / 16, kGroupRows), 2 * kGroupRows, kTileRows), columns};
    while ((rows + cut.rows - 1) / cut.rows * ((columns + cut.columns - 1) / cut.columns) < 6 &&
           cut.columns > panel_width && cut.rows * cut.columns * inner >= 4 * kSmallTask) {
      cut.columns = even_part(cut.columns, (cut.columns + 1) / 2, panel_width);
    }
    return cut;
  }
  TileCut cut{kTileRows, whole_panels(kTileColumns)};
  const auto tasks = [&] { return ((rows + cut.rows - 1) / cut.rows) * ((columns + cut.columns - 1) / cut.columns); };
  const auto worth = [&] {
    return std::min(rows, cut.rows) * std::min(columns, cut.columns) * inner >= 2 * kSmallTask;
  };
  while (tasks() < 16 && worth()) {
    if (cut.columns >= 2 * panel_width && columns > cut.columns / 2) {
      cut.columns = whole_panels(cut.columns / 2);
    } else if (cut.rows > 12) {
      cut.rows /= 2;
    } else {
      break;
    }
  }
  return cut;
}

/// What one task packs of a block of b: columns, a multiple of panels, where b is transposed, else rows.
inline std::int64_t pack_part(std::int64_t columns, std::int64_t inner, std::int64_t panel_width, bool transpose_b) {
  constexpr std::int64_t kElements = 65536;
  if (!transpose_b) return std::max<std::int64_t>(1, kElements / std::max<std::int64_t>(1, columns));
  return panel_width * std::max<std::int64_t>(1, kElements / std::max<std::int64_t>(1, panel_width * inner));
}

/// Columns per task where no tile is packed: a multiple of 64.
inline std::int64_t few_rows_columns(std::int64_t rows, std::int64_t columns, std::int64_t inner) {
  const std::int64_t all = rows * inner * columns;
  if (all <= kSmallTask) return columns;
  return std::max<std::int64_t>(64, kSmallTask / (rows * inner) / 64 * 64);
}

/// A tile of c, one block of columns and one pass over k = inner0 .. inner0 + inner - 1.
template <class T>
struct Tile {
  const Matmul<T>* problem;
  const T* packed;                            // panel after panel, each [inner][kPanel], from `packed_column` on
  T* rows_of_a;                               // room for kTileRows x kInnerChunk numbers if a is transposed
  std::int64_t row0, rows, column0, columns;  // column0 - packed_column is a multiple of kPanel
  std::int64_t packed_column;
  std::int64_t inner0, inner;
  bool last;  // the pass that ends the sums
};

}  // namespace attune::kernels

// How a matrix product is cut: into passes over k, tiles of c and tasks. Functions of the shape alone.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

constexpr std::int64_t kMostRowsOfDots = 8;              // above it, transposing b once is cheaper than dot products
constexpr std::int64_t kMostRowsInPlace = 16;            // above it, packing b pays
constexpr std::int64_t kTileRows = 96;                   // 16 blocks of 6
constexpr std::int64_t kPackedBytes = 4 << 20;           // of b at a time, shared by all threads
constexpr std::int64_t kSmallTask = 1 << 18;             // multiply-adds: about 5 microseconds of a core
constexpr std::int64_t kAloneProduct = 4 * kSmallTask;   // below it, waking other threads costs more than it saves
constexpr std::int64_t kLargeProduct = 64 * kSmallTask;  // from here on a product feeds all threads by itself

/// Part of k that is packed at a time: a multiple of 256, or all of it.
inline std::int64_t pass_inner(std::int64_t columns, std::int64_t inner, std::size_t element_bytes) {
  const std::int64_t fits = kPackedBytes / (columns * std::int64_t(element_bytes)) / 256 * 256;
  return std::max<std::int64_t>(1, std::min(inner, std::max<std::int64_t>(256, fits)));
}

struct TileCut {
  std::int64_t rows, columns;
};
/// 96 rows (16 blocks of 6) by 256 columns of c with its part of a stay in the second-level cache. Smaller where that
/// would make few tasks, as long as a task is worth handing out.
inline TileCut cut_tiles(std::int64_t rows, std::int64_t columns, std::int64_t inner, std::int64_t panel_width) {
  TileCut cut{kTileRows, std::max<std::int64_t>(panel_width, 256 / panel_width * panel_width)};
  const auto tasks = [&] { return ((rows + cut.rows - 1) / cut.rows) * ((columns + cut.columns - 1) / cut.columns); };
  const auto worth = [&] {
    return std::min(rows, cut.rows) * std::min(columns, cut.columns) * inner >= 2 * kSmallTask;
  };
  while (tasks() < 16 && worth()) {
    if (cut.columns >= 2 * panel_width && columns > cut.columns / 2) {
      cut.columns = cut.columns / 2 / panel_width * panel_width;
    } else if (cut.rows > 12) {
      cut.rows /= 2;
    } else {
      break;
    }
  }
  return cut;
}

inline std::int64_t panels_per_task(std::int64_t panel_width, std::int64_t inner) {
  return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, panel_width * inner));
}

/// Columns per task where no tile is packed: a multiple of 64.
inline std::int64_t few_rows_columns(std::int64_t rows, std::int64_t columns, std::int64_t inner) {
  const std::int64_t all = rows * inner * columns;
  if (all <= kSmallTask) return columns;
  return std::max<std::int64_t>(64, kSmallTask / (rows * inner) / 64 * 64);
}

}  // namespace attune::kernels

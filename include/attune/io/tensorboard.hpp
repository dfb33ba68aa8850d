// Event files as TensorBoard reads them: records of numbers over steps.
//
//   file    = record*                  record = length u64 | masked crc of the length u32 | data | masked crc of the
//   data u32 data    = an Event in protocol-buffer encoding: wall time, step, and a summary of one tag and one number
//   masked  = ((crc >> 15) | (crc << 17)) + 0xa282ead8, crc = CRC-32C (Castagnoli)
//
// Numbers are float32 there. Only scalars are written.
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace attune::io {

class TensorBoardWriter {
 public:
  /// Creates "events.out.tfevents.<seconds>.attune" in the folder, which is made if need be. Every opening makes a new
  /// file; the reader joins them, and forgets what earlier files have from `first_step` on, as a resumed run needs.
  /// Throws Error if it cannot be created.
  TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step, double wall_seconds);

  /// One number. wall_seconds: since 1970. Throws Error if it cannot be written.
  void scalar(std::string_view tag, std::int64_t step, double value, double wall_seconds);
  const std::filesystem::path& file() const { return file_; }

 private:
  void record(std::string_view data);
  std::filesystem::path file_;
  std::ofstream out_;
};

/// A number of an event file.
struct TensorBoardScalar {
  std::string tag;
  std::int64_t step = 0;
  float value = 0;
};
/// The scalars of a file, in order; a last record that a kill cut off is left out.
/// Throws Error for a damaged record.
std::vector<TensorBoardScalar> read_tensorboard(const std::filesystem::path& file);

/// CRC-32C.
std::uint32_t crc32c(std::string_view data);

}  // namespace attune::io

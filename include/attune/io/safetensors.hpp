// The safetensors format (https://huggingface.co/docs/safetensors): named arrays in one file, without code in it.
//
//   8 bytes   header length n, little endian
//   n bytes   JSON {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {text:
//   text}} the rest  the arrays, little endian, row major, without gaps; offsets count from here
//
// Everything in a header is checked before any of it is believed: a truncated, overlapping, oversized or malformed file
// gives one Error that names the file. Files are written beside and renamed (io/atomic_file.hpp).
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attune/base/dtype.hpp"
#include "attune/base/shape.hpp"

namespace attune::io {

/// The element types that attune stores; the four floating ones are DType's.
enum class StoredType : std::uint8_t { float32, float64, bfloat16, float16, int32, int64 };

/// Bytes of one element.
std::size_t size_of(StoredType type);
/// The name in the file: "F32", "F64", "BF16", "F16", "I32", "I64".
std::string_view name_of(StoredType type);
/// DType::float32 is StoredType::float32, and so on.
StoredType stored_type(DType dtype);
/// The reverse; throws Error for the integer types.
DType dtype_of(StoredType type);

using SafetensorsMetadata = std::map<std::string, std::string>;

/// One array to be written. `data` is read during the call alone.
struct SafetensorsEntry {
  std::string name;  // not "__metadata__", not used twice
  StoredType type = StoredType::float32;
  Shape shape;
  const void* data = nullptr;  // shape.size() elements, row major
};

/// Writes all entries to `path`, beside and renamed. In the file they are ordered by element size (so each is aligned),
/// then by name: equal content gives equal bytes.
/// Throws Error for a bad name, a name used twice or a write that fails; the old file is then intact.
void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries,
                       const SafetensorsMetadata& metadata = {});

/// What a file says of one of its arrays.
struct SafetensorsItem {
  std::string name;
  StoredType type = StoredType::float32;
  Shape shape;
  std::uint64_t offset = 0, bytes = 0;  // offset from the first byte of the file
};

/// An open file whose header has been checked in full. Arrays are read on request.
class SafetensorsReader {
 public:
  /// Throws Error if the file cannot be opened or is not a sound safetensors file.
  explicit SafetensorsReader(std::filesystem::path path);
  ~SafetensorsReader();
  SafetensorsReader(SafetensorsReader&&) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) = delete;

  /// Sorted by name.
  const std::vector<SafetensorsItem>& items() const { return items_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Throws Error if there is no such array.
  const SafetensorsItem& item(std::string_view name) const;

  /// Copies the array as it is stored: item(name).bytes bytes.
  void read(std::string_view name, void* to) const;
  /// Copies the array and converts between floating types, to exactly `shape`.
  /// Throws Error if the shapes differ or the array is stored as integers.
  void read(std::string_view name, const Shape& shape, DType to_type, void* to) const;

 private:
  const SafetensorsItem* find(std::string_view name) const;
  void parse_header(std::uint64_t file_bytes);
  [[noreturn]] void reject(std::string_view finding) const;
  void read_at(std::uint64_t offset, void* to, std::uint64_t bytes) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::vector<SafetensorsItem> items_;
  SafetensorsMetadata metadata_;
};

}  // namespace attune::io

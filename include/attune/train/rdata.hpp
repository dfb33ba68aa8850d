// Data sets as R packages carry them: a pair of files, <stem>.rdx and <stem>.rdb ("lazy-load database"), which Debian's
// r-cran-* packages hold.
//
//   .rdb   one block after the other: bytes when unpacked (4, big-endian), then a zlib stream: one object
//   .rdx   an object, in gzip or zlib: list(variables = list(<name> = c(offset, length), ...), ...)
//
// An object is R's serialization, format "X" (XDR: big-endian), versions 2 and 3. Vectors of texts, numbers and
// truths, lists and their attributes are read; functions and environments are not data, and are an Error.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attune::train {

/// An R object. One of texts, numbers and items holds it, by its kind; nothing does for NULL.
struct RObject {
  enum class Kind : std::uint8_t { null, texts, numbers, list };
  Kind kind = Kind::null;
  std::vector<std::string> texts;  // a character vector; NA is "NA"
  std::vector<double> numbers;     // integers, truths and doubles; NA is NaN
  std::vector<RObject> items;      // a list, or a pair list
  std::vector<std::string> names;  // of the elements, if they have any: the attribute "names", a pair list's tags
  std::vector<std::string> attribute_names;
  std::vector<RObject> attributes;  // all of them, "names" too

  /// The item of that name. Throws Error if this is no list or has none.
  const RObject& at(std::string_view name) const;
};

/// Reads one object. Throws Error for bytes that are cut off, damaged or of a kind that is no data.
RObject parse_r_object(std::string_view bytes);

/// A lazy-load database, its index read and its objects read one by one.
class RDatabase {
 public:
  /// stem: the path without ".rdx". Throws Error if a file is missing or damaged.
  explicit RDatabase(const std::filesystem::path& stem);
  const std::vector<std::string>& names() const { return names_; }
  /// Throws Error for a name that it does not have.
  RObject read(std::string_view name) const;

 private:
  std::filesystem::path blocks_;
  std::vector<std::string> names_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places_;  // offset, length
};

}  // namespace attune::train

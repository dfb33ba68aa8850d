#include "attune/io/safetensors.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"

namespace attune::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::string_view kMetadataName = "__metadata__";

struct TypeRow {
  StoredType type;
  std::string_view name;
  std::size_t bytes;
};
constexpr TypeRow kTypes[] = {{StoredType::float32, "F32", 4},   {StoredType::float64, "F64", 8},
                              {StoredType::bfloat16, "BF16", 2}, {StoredType::float16, "F16", 2},
                              {StoredType::int32, "I32", 4},     {StoredType::int64, "I64", 8}};

}  // namespace

std::size_t size_of(StoredType type) { return kTypes[std::size_t(type)].bytes; }

std::string_view name_of(StoredType type) { return kTypes[std::size_t(type)].name; }

StoredType stored_type(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return StoredType::float64;
    case DType::bfloat16:
      return StoredType::bfloat16;
    case DType::float16:
      return StoredType::float16;
    default:
      return StoredType::float32;
  }
}

DType dtype_of(StoredType type) {
  switch (type) {
    case StoredType::float32:
      return DType::float32;
    case StoredType::float64:
      return DType::float64;
    case StoredType::bfloat16:
      return DType::bfloat16;
    case StoredType::float16:
      return DType::float16;
    default:
      fail("dtype_of", "a floating type", fmt::format("{} is an integer type", name_of(type)));
  }
}

void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries,
                       const SafetensorsMetadata& metadata) {
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::make_tuple(size_of(b.type), std::string_view(a.name)) <
           std::make_tuple(size_of(a.type), std::string_view(b.name));
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadataName)] = metadata;
  std::set<std::string_view> names;
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.name == kMetadataName || !names.insert(entry.name).second)
      fail("write_safetensors", "names that differ from each other and from __metadata__", entry.name);
    const std::uint64_t bytes = std::uint64_t(entry.shape.size()) * size_of(entry.type);
    if (bytes > 0 && entry.data == nullptr) fail("write_safetensors", "data for every array", entry.name + " has none");
    header[entry.name] = {{"dtype", name_of(entry.type)},
                          {"shape", std::vector<std::int64_t>(entry.shape.begin(), entry.shape.end())},
                          {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& error) {
    fail("write_safetensors", "names and metadata in UTF-8", error.what());
  }
  // Spaces after the JSON bring the first array to a multiple of 8 bytes.
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes)
    fail("write_safetensors", fmt::format("a header of at most {} bytes", kMaxHeaderBytes),
         fmt::format("{} bytes of names and metadata", text.size()));

  AtomicFile file(path);
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text);
  for (const SafetensorsEntry& entry : entries)
    file.write(entry.data, std::size_t(entry.shape.size()) * size_of(entry.type));
  file.commit();
}

SafetensorsReader::SafetensorsReader(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) reject(std::strerror(errno));
  try {
    struct stat about {};
    if (::fstat(descriptor_, &about) != 0) reject(std::strerror(errno));
    if (!S_ISREG(about.st_mode)) reject("it is not a regular file");
    parse_header(std::uint64_t(about.st_size));
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SafetensorsReader::~SafetensorsReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

SafetensorsReader::SafetensorsReader(SafetensorsReader&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      items_(std::move(other.items_)),
      metadata_(std::move(other.metadata_)) {}

void SafetensorsReader::reject(std::string_view finding) const {
  fail("SafetensorsReader", fmt::format("a sound safetensors file {}", path_.string()), finding);
}

void SafetensorsReader::parse_header(std::uint64_t file_bytes) {
  using nlohmann::json;
  if (file_bytes < kLengthBytes) reject(fmt::format("it ends after {} bytes, inside the header length", file_bytes));
  std::uint64_t length = 0;
  read_at(0, &length, kLengthBytes);
  if (length > kMaxHeaderBytes || length > file_bytes - kLengthBytes)
    reject(fmt::format("it claims a header of {} bytes but has {} in all", length, file_bytes));
  std::string text(length, '\0');
  read_at(kLengthBytes, text.data(), length);
  if (text.empty() || text[0] != '{') reject("its header does not begin with {");

  json header;
  std::set<std::string> names;
  try {
    // The parser lets the last of equal keys win; here that would hide an array.
    header = json::parse(text, [&](int depth, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second)
        reject(fmt::format("the name {} occurs twice", parsed.get<std::string>()));
      return true;
    });
  } catch (const json::exception& error) {
    reject(fmt::format("its header is not JSON ({})", error.what()));
  }

  const std::uint64_t data_begin = kLengthBytes + length, data_bytes = file_bytes - data_begin;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataName) {
      if (!value.is_object()) reject("its metadata is not an object");
      for (const auto& [key, content] : value.items()) {
        if (!content.is_string()) reject(fmt::format("its metadata {} is not a text", key));
        metadata_[key] = content.get<std::string>();
      }
      continue;
    }
    const auto is_count = [](const json& number) { return number.is_number_unsigned(); };
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value["dtype"].is_string() ||
        !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
        !value["data_offsets"].is_array() || value["data_offsets"].size() != 2 ||
        !std::all_of(value["shape"].begin(), value["shape"].end(), is_count) ||
        !std::all_of(value["data_offsets"].begin(), value["data_offsets"].end(), is_count))
      reject(fmt::format("{} needs dtype, shape and two data_offsets", name));

    SafetensorsItem item{.name = name};
    const std::string dtype = value["dtype"].get<std::string>();
    const auto* row =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& t) { return t.name == dtype; });
    if (row == std::end(kTypes)) reject(fmt::format("{} has the type {}, which attune does not store", name, dtype));
    item.type = row->type;

    std::uint64_t elements = 1;
    std::vector<std::int64_t> extents;
    for (const json& number : value["shape"]) {
      const std::uint64_t extent = number.get<std::uint64_t>();
      if (extent > file_bytes || (extent > 0 && elements > file_bytes / extent))
        reject(fmt::format("{} has a shape larger than the file", name));
      elements *= extent;
      extents.push_back(std::int64_t(extent));
    }
    if (extents.size() > std::size_t(Shape::kMaxRank)) reject(fmt::format("{} has {} extents", name, extents.size()));
    item.shape = Shape(extents.data(), int(extents.size()));

    const std::uint64_t begin = value["data_offsets"][0].get<std::uint64_t>();
    const std::uint64_t end = value["data_offsets"][1].get<std::uint64_t>();
    if (begin > end || end > data_bytes)
      reject(fmt::format("{} lies at {} to {} of {} bytes; the file may be truncated", name, begin, end, data_bytes));
    if (end - begin != elements * row->bytes)
      reject(fmt::format("{} of shape {} and type {} has {} bytes", name, item.shape.text(), dtype, end - begin));
    item.offset = data_begin + begin;
    item.bytes = end - begin;
    items_.push_back(std::move(item));
  }

  // The arrays cover the data exactly: no overlap, no gap, nothing after the last.
  std::sort(items_.begin(), items_.end(), [](const SafetensorsItem& a, const SafetensorsItem& b) {
    return std::tie(a.offset, a.bytes) < std::tie(b.offset, b.bytes);
  });
  std::uint64_t expected = data_begin;
  for (const SafetensorsItem& item : items_) {
    if (item.offset != expected)
      reject(
          fmt::format("{} {} the array before it", item.name, item.offset < expected ? "overlaps" : "leaves a gap to"));
    expected = item.offset + item.bytes;
  }
  if (expected != file_bytes) reject(fmt::format("{} bytes follow the last array", file_bytes - expected));
  std::sort(items_.begin(), items_.end(),
            [](const SafetensorsItem& a, const SafetensorsItem& b) { return a.name < b.name; });
}

const SafetensorsItem* SafetensorsReader::find(std::string_view name) const {
  const auto place = std::lower_bound(items_.begin(), items_.end(), name,
                                      [](const SafetensorsItem& item, std::string_view n) { return item.name < n; });
  return place != items_.end() && place->name == name ? &*place : nullptr;
}

const SafetensorsItem& SafetensorsReader::item(std::string_view name) const {
  const SafetensorsItem* found = find(name);
  if (found == nullptr)
    fail("SafetensorsReader", fmt::format("an array {} in {}", name, path_.string()), "there is none of that name");
  return *found;
}

void SafetensorsReader::read(std::string_view name, void* to) const {
  const SafetensorsItem& found = item(name);
  read_at(found.offset, to, found.bytes);
}

void SafetensorsReader::read(std::string_view name, const Shape& shape, DType to_type, void* to) const {
  const SafetensorsItem& found = item(name);
  if (found.shape != shape)
    fail("SafetensorsReader", fmt::format("{} of shape {} in {}", name, shape.text(), path_.string()),
         fmt::format("shape {}", found.shape.text()));
  const DType from_type = dtype_of(found.type);
  if (from_type == to_type) return read_at(found.offset, to, found.bytes);
  std::vector<std::uint64_t> aligned((found.bytes + 7) / 8);
  read_at(found.offset, aligned.data(), found.bytes);
  convert(from_type, aligned.data(), to_type, to, shape.size());
}

void SafetensorsReader::read_at(std::uint64_t offset, void* to, std::uint64_t bytes) const {
  char* place = static_cast<char*>(to);
  while (bytes > 0) {
    // One call moves at most 2 GiB on Linux.
    const ssize_t got = ::pread(descriptor_, place, std::min<std::uint64_t>(bytes, 1u << 30), off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) reject(std::strerror(errno));
    if (got == 0) reject("it became shorter while it was read");
    place += got;
    offset += std::uint64_t(got);
    bytes -= std::uint64_t(got);
  }
}

}  // namespace attune::io

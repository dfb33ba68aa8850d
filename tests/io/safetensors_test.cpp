// Arrays survive the round trip; a damaged file is one clear error and never a wrong array.
#include "attune/io/safetensors.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::io {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

std::string file_of(const std::string& header, const std::string& data, std::uint64_t length) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}
std::string file_of(const std::string& header, const std::string& data) { return file_of(header, data, header.size()); }

/// "{name: F32 of 2 elements at begin}".
std::string item(const std::string& name, int begin, int end, const std::string& shape = "[2]",
                 const std::string& dtype = "F32") {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

TEST(Safetensors, RoundTripOfEveryType) {
  const TemporaryFolder folder;
  const std::vector<float> f32{1.5f, -2, 3, 4, 5, 6};
  const std::vector<double> f64{0.1, 1e300};
  const std::vector<std::uint16_t> half{0x3c00, 0x4000, 0x7e01};
  const std::vector<std::int32_t> i32{-7};
  const std::vector<std::int64_t> i64{std::int64_t(1) << 60, -1};
  write_safetensors(folder / "a.safetensors",
                    {{"weight", StoredType::float32, {2, 3}, f32.data()},
                     {"half", StoredType::float16, {3}, half.data()},
                     {"brain", StoredType::bfloat16, {3}, half.data()},
                     {"double", StoredType::float64, {2, 1}, f64.data()},
                     {"ids", StoredType::int32, {1}, i32.data()},
                     {"step", StoredType::int64, {2}, i64.data()},
                     {"none", StoredType::float32, {0, 4}, nullptr},
                     {"scalar", StoredType::float64, {}, f64.data()}},
                    {{"format", "attune"}, {"näme", "\"quoted\"\n"}});
  const SafetensorsReader reader(folder / "a.safetensors");
  EXPECT_EQ(reader.items().size(), 8u);
  EXPECT_EQ(reader.metadata().at("näme"), "\"quoted\"\n");
  EXPECT_EQ(reader.item("weight").shape, Shape({2, 3}));
  EXPECT_EQ(reader.item("none").bytes, 0u);
  EXPECT_EQ(reader.item("scalar").shape.rank(), 0);
  for (const SafetensorsItem& i : reader.items()) EXPECT_EQ(i.offset % size_of(i.type), 0u) << i.name;

  std::vector<float> back(6);
  reader.read("weight", back.data());
  EXPECT_EQ(back, f32);
  std::vector<std::uint16_t> half_back(3);
  reader.read("brain", half_back.data());
  EXPECT_EQ(half_back, half);
  std::vector<std::int64_t> i64_back(2);
  reader.read("step", i64_back.data());
  EXPECT_EQ(i64_back, i64);
  std::vector<double> converted(6);
  reader.read("weight", {2, 3}, DType::float64, converted.data());
  EXPECT_EQ(converted, std::vector<double>(f32.begin(), f32.end()));
  reader.read("double", {2, 1}, DType::float64, converted.data());
  EXPECT_EQ(converted[0], 0.1);
  EXPECT_EQ(converted[1], 1e300);

  EXPECT_FALSE(reader.contains("absent"));
  EXPECT_THROW(reader.read("absent", back.data()), Error);
  EXPECT_THROW(reader.read("weight", {3, 2}, DType::float32, back.data()), Error);
  EXPECT_THROW(reader.read("ids", {1}, DType::float32, back.data()), Error);
}

TEST(Safetensors, EqualContentGivesEqualBytes) {
  const TemporaryFolder folder;
  const float x[2] = {1, 2};
  const SafetensorsEntry a{"a", StoredType::float32, {2}, x}, b{"b", StoredType::bfloat16, {1}, x};
  write_safetensors(folder / "1", {a, b});
  write_safetensors(folder / "2", {b, a});
  EXPECT_EQ(read_file(folder / "1"), read_file(folder / "2"));
  // The format as other programs expect it, byte for byte.
  const std::string header = "{" + item("a", 0, 8) + "," + item("b", 8, 10, "[1]", "BF16") + "}";
  std::string padded = header;
  padded.append((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_file(folder / "1"),
            file_of(padded, std::string(reinterpret_cast<const char*>(x), 8) + std::string(2, '\0')));
}

TEST(Safetensors, WriterRefusesBadEntries) {
  const TemporaryFolder folder;
  const float x[2] = {1, 2};
  const SafetensorsEntry a{"a", StoredType::float32, {2}, x};
  write_safetensors(folder / "f", {a});
  const std::string old = read_file(folder / "f");
  EXPECT_THROW(write_safetensors(folder / "f", {a, a}), Error);
  EXPECT_THROW(write_safetensors(folder / "f", {{"__metadata__", StoredType::float32, {2}, x}}), Error);
  EXPECT_THROW(write_safetensors(folder / "f", {{"b", StoredType::float32, {2}, nullptr}}), Error);
  EXPECT_THROW(write_safetensors(folder / "f", {{"\xff", StoredType::float32, {2}, x}}), Error);
  EXPECT_EQ(read_file(folder / "f"), old);
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const TemporaryFolder folder;
  const float x[3] = {1, 2, 3};
  write_safetensors(folder / "whole", {{"a", StoredType::float32, {2}, x}, {"b", StoredType::float32, {1}, x + 2}});
  const std::string whole = read_file(folder / "whole");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    std::ofstream(folder / "cut", std::ios::binary) << whole.substr(0, bytes);
    const std::string message = message_of([&] { SafetensorsReader reader(folder / "cut"); });
    EXPECT_NE(message.find((folder / "cut").string()), std::string::npos) << bytes << " bytes: " << message;
  }
}

TEST(Safetensors, DamagedHeadersAreErrors) {
  const TemporaryFolder folder;
  const std::string data(16, 'x');
  const struct {
    std::string file, finding;
  } cases[] = {
      {file_of("{}", "", ~std::uint64_t(0)), "claims a header"},
      {file_of("{}", "", std::uint64_t(1) << 40), "claims a header"},
      {file_of("[]", ""), "does not begin with {"},
      {file_of("", ""), "does not begin with {"},
      {file_of("{\"a\":", ""), "not JSON"},
      {file_of("{\"a\":1}", ""), "needs dtype, shape"},
      {file_of(R"({"a":{"dtype":"F32","shape":[2]}})", data), "needs dtype, shape"},
      {file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", data), "needs dtype, shape"},
      {file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", data), "needs dtype, shape"},
      {file_of(R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", data), "needs dtype, shape"},
      {file_of("{" + item("a", 0, 16, "[2]", "X9") + "}", data), "the type X9"},
      {file_of("{" + item("a", 0, 16) + "}", data), "has 16 bytes"},
      {file_of("{" + item("a", 0, 8) + "," + item("b", 4, 12) + "}", data), "overlaps"},
      {file_of("{" + item("a", 0, 8) + "," + item("b", 0, 8) + "}", data), "overlaps"},
      {file_of("{" + item("a", 0, 4, "[1]") + "," + item("b", 8, 16) + "}", data), "leaves a gap"},
      {file_of("{" + item("a", 0, 8) + "}", data), "8 bytes follow"},
      {file_of("{" + item("a", 0, 8) + "," + item("b", 8, 16) + "}", data + "x"), "1 bytes follow"},
      {file_of("{" + item("a", 8, 0) + "}", data), "lies at 8 to 0"},
      {file_of("{" + item("a", 0, 24, "[6]") + "}", data), "may be truncated"},
      {file_of("{" + item("a", 0, 8) + "," + item("a", 8, 16) + "}", data), "occurs twice"},
      {file_of("{" + item("a", 0, 16, "[4294967296,4294967296]") + "}", data), "larger than the file"},
      {file_of("{" + item("a", 0, 4, "[1,1,1,1,1,1,1,1,1]") + "}", data), "9 extents"},
      {file_of(R"({"__metadata__":{"a":1}})", ""), "not a text"},
      {file_of(R"({"__metadata__":[]})", ""), "not an object"},
      {file_of("{\"\xff\":1}", ""), "not JSON"},
  };
  for (const auto& [file, finding] : cases) {
    std::ofstream(folder / "bad", std::ios::binary) << file;
    const std::string message = message_of([&] { SafetensorsReader reader(folder / "bad"); });
    EXPECT_NE(message.find(finding), std::string::npos) << "expected: " << finding << "\n     got: " << message;
    EXPECT_NE(message.find((folder / "bad").string()), std::string::npos) << message;
  }
  EXPECT_NE(message_of([&] { SafetensorsReader reader(folder.path()); }).find("not a regular file"), std::string::npos);
  EXPECT_NE(message_of([&] { SafetensorsReader reader(folder / "absent"); }).find("No such file"), std::string::npos);
}

TEST(Safetensors, AnEmptyFileOfArraysIsFine) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {});
  EXPECT_TRUE(SafetensorsReader(folder / "f").items().empty());
}

}  // namespace
}  // namespace attune::io

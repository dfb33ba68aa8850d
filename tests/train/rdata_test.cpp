// R data sets: files put together byte by byte, as R would write them, and what is said about damaged ones.
#include "attune/train/rdata.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "attune/io/atomic_file.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"
#include "train/r_writer.hpp"

namespace attune::train {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;
using testing_r::r_block;
using testing_r::write_r_database;
using testing_r::Writer;

TEST(RData, ReadsVectorsListsAndTheirNames) {
  const RObject texts = parse_r_object(Writer().begin().texts({"EMMA", "", "gr\xc3\xbc\xc3\x9f"}).bytes);
  EXPECT_EQ(texts.kind, RObject::Kind::texts);
  EXPECT_EQ(texts.texts, (std::vector<std::string>{"EMMA", "", "gr\xc3\xbc\xc3\x9f"}));

  const RObject reals = parse_r_object(Writer().begin(2).word(14).word(2).real(-2.5).real(1e300).bytes);
  EXPECT_EQ(reals.numbers, (std::vector<double>{-2.5, 1e300}));
  const RObject whole =
      parse_r_object(Writer().begin().word(13).word(3).word(7).word(0x80000000).word(0xffffffff).bytes);
  EXPECT_EQ(whole.numbers[0], 7);
  EXPECT_TRUE(std::isnan(whole.numbers[1])) << "NA";
  EXPECT_EQ(whole.numbers[2], -1);
  EXPECT_EQ(parse_r_object(Writer().begin().word(10).word(1).word(1).bytes).numbers[0], 1);
  EXPECT_EQ(parse_r_object(Writer().begin().word(16).word(1).word(9).word(0xffffffff).bytes).texts[0], "NA");
  EXPECT_EQ(parse_r_object(Writer().begin().word(254).bytes).kind, RObject::Kind::null);

  Writer list;
  list.begin().word(19 | 512).word(2).word(13).word(1).word(5).texts({"x"}).names({"a", "b"});
  const RObject object = parse_r_object(list.bytes);
  EXPECT_EQ(object.names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(object.at("a").numbers, (std::vector<double>{5}));
  EXPECT_EQ(object.at("b").texts[0], "x");
  ASSERT_EQ(object.attributes.size(), 1u);
  EXPECT_EQ(object.attribute_names[0], "names");
  EXPECT_NE(message_of([&] { object.at("c"); }).find("an item c"), std::string::npos);

  // A second use of a symbol is a reference to the first.
  Writer again;
  again.begin().word(19).word(2).word(16 | 512).word(1).text("u").names({"n"}).word(16 | 512).word(1).text("v");
  again.word(2 | 1024).word(255 | 1 << 8).texts({"m"}).word(254);
  EXPECT_EQ(parse_r_object(again.bytes).items[1].names, (std::vector<std::string>{"m"}));

  // A run of numbers in short: class (pair list), state (length, first, step), no attributes.
  Writer run;
  run.begin()
      .word(238)
      .word(2)
      .word(1)
      .text("compact_intseq")
      .word(254)
      .word(14)
      .word(3)
      .real(3)
      .real(4)
      .real(2)
      .word(254);
  EXPECT_EQ(parse_r_object(run.bytes).numbers, (std::vector<double>{4, 6, 8}));
}

TEST(RData, SaysWhatIsNoData) {
  const std::string whole = Writer().begin().texts({"EMMA", "by"}).bytes;
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(message_of([&] { parse_r_object(whole.substr(0, size)); }), "no error") << size;
  EXPECT_NE(message_of([&] { parse_r_object("A\n"); }).find("begin"), std::string::npos);
  EXPECT_NE(message_of([&] { parse_r_object(Writer().begin(7).bytes); }).find("version 7"), std::string::npos);
  EXPECT_NE(message_of([&] { parse_r_object(Writer().begin().word(3).bytes); }).find("type 3"), std::string::npos);
  EXPECT_NE(
      message_of([&] { parse_r_object(Writer().begin().word(14).word(0x7fffffff).real(1).bytes); }).find("length"),
      std::string::npos);
  Writer deep;
  deep.begin();
  for (int i = 0; i < 100; ++i) deep.word(19).word(1);
  EXPECT_NE(message_of([&] { parse_r_object(deep.word(254).bytes); }).find("within each other"), std::string::npos);
}

TEST(RData, ADatabaseIsAnIndexAndBlocks) {
  const TemporaryFolder folder;
  const std::string first = r_block(Writer().begin().texts({"one"})),
                    second = r_block(Writer().begin().texts({"two", "2"}));
  write_r_database(folder / "data", {{"a", first}, {"b", second}});
  const RDatabase data(folder / "data");
  EXPECT_EQ(data.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(data.read("b").texts, (std::vector<std::string>{"two", "2"}));
  EXPECT_EQ(data.read("a").texts, (std::vector<std::string>{"one"}));
  EXPECT_NE(message_of([&] { data.read("c"); }).find("there is no c"), std::string::npos);

  io::write_file(folder / "data.rdb", (first + second).substr(0, first.size() + 9));
  EXPECT_NE(message_of([&] { data.read("b"); }).find("data.rdb"), std::string::npos);
  std::string bad = first;
  bad[12] = char(bad[12] ^ 0x55);
  io::write_file(folder / "data.rdb", bad + second);
  EXPECT_NE(message_of([&] { data.read("a"); }), "no error");
  EXPECT_NE(message_of([&] { RDatabase(folder / "none"); }).find("none.rdx"), std::string::npos);
}

}  // namespace
}  // namespace attune::train

// Readers of text: what is written comes back, and what is damaged is named by file and line.
#include "attune/train/parallel_text.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

TEST(ParallelText, RoundTrip) {
  const TemporaryFolder folder;
  const ParallelText text{
      .train = {{"One bed", "Ein Beet"}, {"Two", "Zwei"}}, .valid = {{"ice – 冰", "Eis\u00a0…"}}, .test = {{"a", "b"}}};
  write_parallel_text(folder / "new/deep", text);
  const ParallelText back = read_parallel_text(folder / "new/deep");
  EXPECT_EQ(back.train, text.train);
  EXPECT_EQ(back.valid, text.valid);
  EXPECT_EQ(back.test, text.test);
  EXPECT_EQ(sources(back.train), (std::vector<std::string>{"One bed", "Two"}));
  EXPECT_EQ(targets(back.train), (std::vector<std::string>{"Ein Beet", "Zwei"}));
}

TEST(ParallelText, OtherLineEndsAndByteOrderMarks) {
  const TemporaryFolder folder;
  std::ofstream(folder / "a.tsv", std::ios::binary) << "\xef\xbb\xbfone\teins\r\ntwo\tzwei";
  EXPECT_EQ(read_tsv(folder / "a.tsv"), (std::vector<SentencePair>{{"one", "eins"}, {"two", "zwei"}}));
  std::ofstream(folder / "a.txt", std::ios::binary) << "one\n\ntwo";
  EXPECT_EQ(read_lines(folder / "a.txt"), (std::vector<std::string>{"one", "", "two"}));
}

TEST(ParallelText, DamageIsNamedByFileAndLine) {
  const TemporaryFolder folder;
  const struct {
    std::string content, finding;
  } cases[] = {{"", "the file is empty"},
               {"a\tb\nno tab", "line 2, the line has no TAB"},
               {"a\tb\n\nc\td\n", "line 2, the line has no TAB"},
               {"a\tb\tc\n", "line 1, the line has more than one TAB"},
               {"a\tb\n\tb\n", "line 2, one side is empty"},
               {"a\t\n", "line 1, one side is empty"},
               {"a\tb\nc\td\xc3\n", "line 2, byte 4 is not"},
               {"a\tb\nc\t\xed\xa0\x80\n", "line 2, byte 3 is not"}};
  const std::string path = (folder / "bad.tsv").string();
  for (const auto& [content, finding] : cases) {
    std::ofstream(path, std::ios::binary) << content;
    const std::string message = message_of([&] { read_tsv(path); });
    EXPECT_NE(message.find(finding), std::string::npos) << message;
    EXPECT_NE(message.find(path), std::string::npos) << message;
  }
  std::ofstream(path, std::ios::binary) << "fine\n\xff\n";
  EXPECT_NE(message_of([&] { read_lines(path); }).find("line 2, byte 1 is not"), std::string::npos);
  EXPECT_NE(message_of([&] { read_lines(folder / "absent"); }).find("No such file"), std::string::npos);
}

TEST(ParallelText, WriterKeepsTheFormat) {
  const TemporaryFolder folder;
  write_tsv(folder / "a.tsv", std::vector<SentencePair>{{"old", "alt"}});
  for (const SentencePair& bad : {SentencePair{"a\tb", "c"}, SentencePair{"a", "b\nc"}, SentencePair{"", "c"}})
    EXPECT_THROW(write_tsv(folder / "a.tsv", std::vector<SentencePair>{{"new", "neu"}, bad}), Error);
  EXPECT_EQ(read_tsv(folder / "a.tsv"), (std::vector<SentencePair>{{"old", "alt"}}));
}

}  // namespace
}  // namespace attune::train

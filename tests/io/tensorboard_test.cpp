#include "attune/io/tensorboard.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "attune/io/atomic_file.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::io {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

TEST(TensorBoard, SumsAreCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of CRC-32C
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
}

TEST(TensorBoard, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  std::filesystem::path file;
  {
    TensorBoardWriter writer(folder.path() / "board", 0, 1.7e9);
    writer.scalar("loss", 1, 2.5, 1.7e9);
    writer.scalar("guard/layers.0", 300, -0.125, 1.7e9 + 1);
    file = writer.file();
    const TensorBoardWriter second(folder.path() / "board", 300, 1.7e9);
    EXPECT_NE(second.file(), file);
    EXPECT_TRUE(read_tensorboard(second.file()).empty());
  }
  const std::vector<TensorBoardScalar> scalars = read_tensorboard(file);
  ASSERT_EQ(scalars.size(), 2u);
  EXPECT_EQ(scalars[0].tag, "loss");
  EXPECT_EQ(scalars[0].step, 1);
  EXPECT_EQ(scalars[0].value, 2.5f);
  EXPECT_EQ(scalars[1].tag, "guard/layers.0");
  EXPECT_EQ(scalars[1].step, 300);
  EXPECT_EQ(scalars[1].value, -0.125f);
}

TEST(TensorBoard, LeavesOutACutRecordAndRefusesADamagedOne) {
  const TemporaryFolder folder;
  TensorBoardWriter writer(folder.path(), 0, 1.7e9);
  writer.scalar("loss", 1, 2.5, 1.7e9);
  writer.scalar("loss", 2, 2.25, 1.7e9);
  std::string all = read_file(writer.file());
  write_file(folder.path() / "cut", all.substr(0, all.size() - 3));
  EXPECT_EQ(read_tensorboard(folder.path() / "cut").size(), 1u);
  all[all.size() - 6] ^= 1;
  write_file(folder.path() / "damaged", all);
  EXPECT_NE(message_of([&] { read_tensorboard(folder.path() / "damaged"); }).find("damaged data"), std::string::npos);
}

}  // namespace
}  // namespace attune::io

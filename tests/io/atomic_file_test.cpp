// A file is complete or absent: whatever goes wrong, the old one stays.
#include "attune/io/atomic_file.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <string>

#include "attune/base/error.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::io {
namespace {

using attune::testing::message_of;
using attune::testing::TemporaryFolder;

/// A full disk in small: writing beyond `bytes` fails while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  sighandler_t old_handler_;
};

TEST(AtomicFile, WritesAndReadsBack) {
  const TemporaryFolder folder;
  const std::string content = std::string("first\0second", 12) + std::string(300'000, 'x');
  write_file(folder / "a", content);
  EXPECT_EQ(read_file(folder / "a"), content);
  write_file(folder / "a", "");
  EXPECT_EQ(read_file(folder / "a"), "");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.tmp"));
}

TEST(AtomicFile, NothingIsVisibleBeforeCommit) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
    EXPECT_EQ(read_file(folder / "a"), "old");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.tmp"));
  AtomicFile file(folder / "a");
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "new");
  EXPECT_THROW(file.write("more"), Error);
  EXPECT_THROW(file.commit(), Error);
}

TEST(AtomicFile, ReplacesWhatAnInterruptedWriterLeft) {
  const TemporaryFolder folder;
  write_file(folder / "a.tmp", "half of a long fi");
  write_file(folder / "a", "ok");
  EXPECT_EQ(read_file(folder / "a"), "ok");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.tmp"));
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  std::string message;
  {
    const FileSizeLimit limit(100'000);
    message = message_of([&] { write_file(folder / "a", std::string(500'000, 'x')); });
  }
  EXPECT_NE(message.find((folder / "a").string()), std::string::npos) << message;
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.tmp"));
}

TEST(AtomicFile, ErrorsNameThePath) {
  const TemporaryFolder folder;
  EXPECT_NE(message_of([&] { write_file(folder / "no/such/folder", "x"); }).find("No such file"), std::string::npos);
  const std::string message = message_of([&] { read_file(folder / "absent"); });
  EXPECT_EQ(message, "read_file: a readable file " + (folder / "absent").string() + ", No such file or directory");
  EXPECT_NE(message_of([&] { read_file(folder.path()); }).find("Is a directory"), std::string::npos);
  // A folder of that name cannot be replaced by a file; the unfinished file goes away.
  std::filesystem::create_directories(folder / "taken/inside");
  EXPECT_NE(message_of([&] { write_file(folder / "taken", "x"); }).find("cannot rename"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "taken.tmp"));
}

}  // namespace
}  // namespace attune::io

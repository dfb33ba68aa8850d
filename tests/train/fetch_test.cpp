// Fetching without a network: small scripts play apt-get and dpkg-deb, first as they should work, then as they fail.
#include "attune/train/fetch.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <functional>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/libreoffice_help.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;
using attune::testing::message_of;
using attune::testing::TemporaryFolder;

class Fetch : public ::testing::Test {
 protected:
  Fetch() : old_path_(::getenv("PATH")) {
    fs::create_directories(tools_.path());
    ::setenv("PATH", (tools_.path().string() + ":" + old_path_).c_str(), 1);
    tool("apt-get", "echo \"$@\" >> " + (tools_ / "calls").string() + "; echo x > \"$4_1.2-3_all.deb\"");
    // Unpacks the pages of the fixture, whatever the archive holds.
    tool("dpkg-deb",
         "[ \"$1\" = -f ] && { echo 4:1.2-3; exit 0; }\n"
         "case \"$2\" in *en-us*) l=en-US;; *-de_*) l=de;; *) exit 0;; esac\n"
         "mkdir -p \"$3/usr/share/libreoffice/help/$l\"\n"
         "cp -r \"" ATTUNE_SOURCE_DIR "/tests/golden/data/help/$l/text\" \"$3/usr/share/libreoffice/help/$l/\"");
  }
  ~Fetch() override { ::setenv("PATH", old_path_.c_str(), 1); }

  void tool(const std::string& name, const std::string& script) {
    std::ofstream(tools_ / name) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(tools_ / name, fs::perms::owner_all);
  }
  std::string fetch_error(const std::string& target = "de") {
    return message_of([&] { fetch_translation(data_ / "data", {"en-US", target}); });
  }
  bool anything_under_a_final_name() const {
    if (!fs::exists(data_ / "data")) return false;
    for (const fs::directory_entry& entry : fs::directory_iterator(data_ / "data"))
      if (entry.path().filename() != "libreoffice-help-en-us") return true;
    return false;
  }

  TemporaryFolder tools_, data_;
  std::string old_path_;
};

TEST_F(Fetch, FetchesOnceAndDescribes) {
  std::vector<std::string> told;
  const auto progress = [&](std::string_view line) { told.emplace_back(line); };
  const auto first = fetch_translation(data_ / "data", {"en-US", "de"}, progress);
  EXPECT_EQ(first[0].name, "libreoffice-help-en-us");
  EXPECT_EQ(first[1].version, "4:1.2-3");
  EXPECT_EQ(first[0].num_files, 4);
  EXPECT_EQ(first[1].num_files, 3);
  EXPECT_FALSE(first[0].was_there);
  EXPECT_EQ(first[0].sha256.size(), 64u);
  EXPECT_NE(first[0].sha256, first[1].sha256);
  EXPECT_EQ(told.size(), 4u);

  const auto second = fetch_translation(data_ / "data", {"en-US", "de"});
  EXPECT_TRUE(second[0].was_there && second[1].was_there);
  EXPECT_EQ(second[1].sha256, first[1].sha256);
  EXPECT_EQ(io::read_file(tools_ / "calls"),
            "download -q -- libreoffice-help-en-us\ndownload -q -- libreoffice-help-de\n");

  // A changed page is seen.
  std::ofstream(second[1].pages / "swriter/guide/lamp.html", std::ios::app) << " ";
  EXPECT_NE(fetch_translation(data_ / "data", {"en-US", "de"})[1].sha256, first[1].sha256);
}

TEST_F(Fetch, SumIsOverPathSizeAndBytes) {
  fetch_translation(data_ / "data", {"en-US", "de"});
  const fs::path pages = data_ / "data/libreoffice-help-de/usr/share/libreoffice/help/de/text";
  fs::remove_all(pages);
  fs::create_directories(pages / "b");
  std::ofstream(pages / "b/a.html") << "xy";
  std::ofstream(pages / "a.html") << "z";
  std::ofstream(pages / "note.txt") << "not a page";
  const FetchedPackage package = fetch_translation(data_ / "data", {"en-US", "de"})[1];
  EXPECT_EQ(package.num_files, 2);
  EXPECT_EQ(package.bytes, 3);
  // printf 'a.html\n1\nzb/a.html\n2\nxy' | sha256sum
  EXPECT_EQ(package.sha256, "5f6fedd979bec4a5f125eb4a6789378932f5364971af9d441e3a679dc65ea9e9");
}

TEST_F(Fetch, AnInterruptedFetchIsDoneAgain) {
  fs::create_directories(data_ / "data/libreoffice-help-de/usr/share/libreoffice/help/de/text");
  fs::create_directories(data_ / "data/.libreoffice-help-de.tmp/unpacked/half");
  EXPECT_EQ(fetch_translation(data_ / "data", {"en-US", "de"})[1].num_files, 3);
  EXPECT_FALSE(fs::exists(data_ / "data/.libreoffice-help-de.tmp"));
}

TEST_F(Fetch, AnUnknownPackage) {
  tool("apt-get", "echo 'WARNING: noise'; echo 'E: Unable to locate package '$4 >&2; exit 100");
  const std::string message = fetch_error();
  EXPECT_NE(message.find("E: Unable to locate package libreoffice-help-en-us"), std::string::npos) << message;
  EXPECT_NE(message.find("apt-get update"), std::string::npos) << message;
  EXPECT_FALSE(anything_under_a_final_name());
}

TEST_F(Fetch, NoNetwork) {
  tool("apt-get", "echo 'E: Failed to fetch x  Could not resolve host' >&2; exit 100");
  EXPECT_NE(fetch_error().find("exit code 100: E: Failed to fetch x  Could not resolve host"), std::string::npos);
}

TEST_F(Fetch, AFullDiskWhileUnpacking) {
  tool("dpkg-deb",
       "[ \"$1\" = -f ] && { echo 1; exit 0; }\nmkdir -p \"$3/usr\"\n"
       "for i in 1 2 3 4 5; do echo 'tar: ./usr: Cannot write: No space left on device'; done >&2; echo 'dpkg-deb: "
       "error: tar failed' >&2; exit 2");
  const std::string message = fetch_error();
  EXPECT_NE(message.find("No space left on device (and 5 lines more)"), std::string::npos) << message;
  EXPECT_FALSE(anything_under_a_final_name());
  EXPECT_FALSE(fs::exists(data_ / "data/libreoffice-help-en-us"));
}

TEST_F(Fetch, OtherFailures) {
  EXPECT_NE(fetch_error("zh-CN").find("it holds none"), std::string::npos);
  EXPECT_NE(fetch_error("en-US").find("two different languages"), std::string::npos);
  EXPECT_NE(fetch_error("../de").find("a language such as"), std::string::npos);
  tool("apt-get", "kill -9 $$");
  EXPECT_NE(fetch_error("de").find("exit code 137"), std::string::npos);
  ::setenv("PATH", (data_ / "empty").c_str(), 1);
  EXPECT_NE(fetch_error("de").find("apt-get, it is not installed"), std::string::npos);
  std::ofstream(data_ / "file") << "x";
  EXPECT_NE(message_of([&] {
              fetch_translation(data_ / "file", {"en-US", "de"});
            }).find("a folder"),
            std::string::npos);
}

TEST_F(Fetch, PreparesAndWarns) {
  const PreparedTranslation prepared = prepare_translation(data_ / "data", {"en-US", "de"});
  EXPECT_EQ(prepared.folder, data_ / "data/translation-en-US-de");
  EXPECT_EQ(read_parallel_text(prepared.folder).train, prepared.text.train);
  EXPECT_EQ(prepared.counts.train, 9);
  // These pages are not the package's, so the counts differ from the recorded ones: both are named.
  ASSERT_EQ(prepared.warnings.size(), 1u);
  EXPECT_NE(prepared.warnings[0].find("9 train"), std::string::npos) << prepared.warnings[0];
  EXPECT_NE(prepared.warnings[0].find("39682 train"), std::string::npos) << prepared.warnings[0];
}

TEST(HelpPackage, Names) {
  EXPECT_EQ(help_package("en-US"), "libreoffice-help-en-us");
  EXPECT_EQ(help_package("zh-CN"), "libreoffice-help-zh-cn");
  for (const char* bad : {"", "de us", "-de", "de;x", "d\xc3\xa9"}) EXPECT_THROW(help_package(bad), Error) << bad;
}

}  // namespace
}  // namespace attune::train

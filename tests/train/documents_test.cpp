// What the documents say of recipes: every block of TOML is one that is read, and the keys of optimizers are those that
// there are, with the defaults that they have.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/config.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> pages() {
  std::vector<fs::path> all{fs::path(ATTUNE_SOURCE_DIR) / "README.md", fs::path(ATTUNE_SOURCE_DIR) / "README.zh.md"};
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(ATTUNE_SOURCE_DIR) / "docs"))
    if (entry.path().extension() == ".md") all.push_back(entry.path());
  return all;
}

std::vector<std::string> toml_blocks(const std::string& page) {
  static const std::string open = "\n```toml\n", close = "\n```";
  std::vector<std::string> blocks;
  for (std::size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    at += open.size();
    const std::size_t end = page.find(close, at);
    blocks.push_back(page.substr(at, end - at) + "\n");
    at = end;
  }
  return blocks;
}

TEST(Documents, BlocksOfTomlAreRecipes) {
  int blocks = 0;
  for (const fs::path& page : pages()) {
    for (std::string block : toml_blocks(io::read_file(page))) {
      if (block.find("[[remedy]]") != std::string::npos) continue;  // the plan of a sweep
      if (block.find("[train]") == std::string::npos) block += "[train]\nsteps = 1000\n";
      EXPECT_NO_THROW(parse_config(block, page.filename().string())) << block;
      ++blocks;
    }
  }
  EXPECT_GE(blocks, 8);
}

/// The code spans of the row of a kind in the table of keys, which has two columns.
std::vector<std::string> row_of(const std::string& page, const std::string& kind) {
  const std::size_t table = page.find("\n|---|---|\n| `sgd` |");
  if (table == std::string::npos) return {};
  std::istringstream lines(page.substr(table));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `" + kind + "` |")) continue;
    std::vector<std::string> spans;
    std::size_t at = line.find('|', 2);
    while ((at = line.find('`', at)) != std::string::npos) {
      const std::size_t end = line.find('`', at + 1);
      spans.push_back(line.substr(at + 1, end - at - 1));
      at = end + 1;
    }
    return spans;
  }
  return {};
}

/// Names of the keys of [optimizer] in a complete configuration, in order.
std::vector<std::string> keys_of(const RunConfig& config) {
  const std::string text = config_text(config);
  const std::size_t from = text.find("\n[optimizer]\n") + 13;
  std::istringstream lines(text.substr(from, text.find("\n[", from) - from));
  std::vector<std::string> keys;
  for (std::string line; std::getline(lines, line);) keys.push_back(line.substr(0, line.find(' ')));
  return keys;
}

TEST(Documents, KeysOfOptimizersAreTheirsAndSoAreTheDefaults) {
  const std::vector<std::string> common{"kind",          "decay",       "clip_norm", "clip_value",
                                        "clip_adaptive", "clip_zscore", "average",   "average_warmup"};
  for (const char* name : {"optimizers.md", "optimizers.zh.md"}) {
    const std::string page = io::read_file(fs::path(ATTUNE_SOURCE_DIR) / "docs" / name);
    for (const std::string& kind : optimizer_kinds()) {
      const std::string head = "[train]\nsteps = 9\n[optimizer]\nkind = \"" + kind + "\"\n";
      std::string recipe = head;
      std::vector<std::string> written;
      for (const std::string& span : row_of(page, kind)) {
        recipe += span + "\n";
        written.push_back(span.substr(0, span.find(' ')));
      }
      const RunConfig defaults = parse_config(head);
      EXPECT_EQ(parse_config(recipe, name).optimizer, defaults.optimizer) << kind;
      for (const std::string& key : keys_of(defaults)) {
        const bool known = std::find(common.begin(), common.end(), key) != common.end();
        const bool told = std::find(written.begin(), written.end(), key) != written.end();
        EXPECT_TRUE(known || told) << name << " has no `" << key << "` of " << kind;
      }
    }
  }
}

}  // namespace
}  // namespace attune::train

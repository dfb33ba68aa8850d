// The language-model task: characters, windows, novels out of a package, and a model that learns a text.
#include "attune/train/language_task.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numbers>
#include <set>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/run.hpp"
#include "message_of.hpp"
#include "temporary_folder.hpp"
#include "train/r_writer.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;
using attune::testing::message_of;
using attune::testing::TemporaryFolder;
using testing_r::Writer;

/// A text that can be learned: the same few words in an order that the one before decides.
std::string rhyme(int words, std::uint64_t seed) {
  static const std::vector<std::string> all = {"the ", "cat ", "sat ", "on ", "a ", "mat.\n"};
  Generator generator(seed);
  std::string text;
  std::size_t at = 0;
  for (int i = 0; i < words; ++i) {
    text += all[at];
    at = generator.below(8) == 0 ? std::size_t(generator.below(all.size())) : (at + 1) % all.size();
  }
  return text;
}

std::string recipe(const fs::path& folder, int steps) {
  return "task = \"language-model\"\nseed = 4\n[data]\nsource = \"text\"\nfolder = \"" + folder.string() +
         "\"\n[model]\nkind = \"gpt\"\nnum_layers = 1\nmodel_dim = 16\nnum_heads = 2\nfeed_forward_dim = 32\n"
         "context = 24\ndropout = 0.1\nnorm_kind = \"rms\"\nactivation = \"gelu\"\n"
         "token_position = \"learned\"\n[train]\nsteps = " +
         std::to_string(steps) +
         "\nbatch_tokens = 192\nlabel_smoothing = 0.0\nz_loss = 1e-4\nlog_every = 5\ncheckpoint_every = 7\n"
         "validate_every = 10\n[optimizer]\nlearning_rate = 1e-2\n";
}

class LanguageTask : public ::testing::Test {
 protected:
  LanguageTask() {
    fs::create_directories(text_.path());
    io::write_file(text_ / "train.txt", rhyme(900, 1));
    io::write_file(text_ / "valid.txt", rhyme(60, 2));
    io::write_file(text_ / "test.txt", rhyme(60, 3));
  }
  RunConfig config(int steps) const { return parse_config(recipe(text_.path(), steps)); }
  TemporaryFolder text_, out_;
};

TEST(Alphabet, NumbersCharactersAndBack) {
  const TemporaryFolder folder;
  const Alphabet alphabet = Alphabet::of(
      "cab\n\xc3\xa4"
      "bb");
  EXPECT_EQ(alphabet.size(), 6);  // \n a b c and a letter with dots, and the unknown one
  EXPECT_EQ(alphabet.encode("\nabc\xc3\xa4?"), (std::vector<std::int32_t>{1, 2, 3, 4, 5, 0}));
  EXPECT_EQ(alphabet.decode(std::vector<std::int32_t>{4, 2, 0, 5}), "ca\xef\xbf\xbd\xc3\xa4");
  alphabet.save(folder / "characters.txt");
  EXPECT_EQ(Alphabet::load(folder / "characters.txt").encode("cab"), alphabet.encode("cab"));
  EXPECT_THROW(alphabet.decode(std::vector<std::int32_t>{6}), Error);
  EXPECT_THROW(alphabet.encode("\xff"), Error);
  EXPECT_THROW(Alphabet::of(""), Error);
  io::write_file(folder / "characters.txt", "ba");
  EXPECT_THROW(Alphabet::load(folder / "characters.txt"), Error);
}

TEST(TextStream, CutsTheTextIntoWindowsOnceAnEpoch) {
  std::vector<std::int32_t> text;
  for (int i = 0; i < 103; ++i) text.push_back(i);
  TextStream stream(text, {.rows = 3, .length = 8, .seed = 5});
  EXPECT_EQ(stream.batches_in_epoch(), 3);
  std::set<std::int32_t> begun;
  for (int b = 0; b < 3; ++b) {
    const TokenBatch batch = stream.next();
    EXPECT_EQ(batch.tokens.shape(), (Shape{3, 8}));
    EXPECT_EQ(batch.counted, 24);
    for (std::int64_t i = 0; i < 24; ++i) EXPECT_EQ(batch.targets[i], batch.tokens[i] + 1);
    for (std::int64_t row = 0; row < 3; ++row) begun.insert(batch.tokens[row * 8]);
  }
  EXPECT_EQ(begun.size(), 9u) << "no window twice";
  for (const std::int32_t at : begun) EXPECT_EQ((at - *begun.begin()) % 8, 0);
  EXPECT_EQ(stream.cursor(), (BatchCursor{1, 0}));

  const TokenBatch first = stream.next();
  TextStream other(text, {.rows = 3, .length = 8, .seed = 5});
  other.skip(3);
  EXPECT_EQ(other.cursor(), (BatchCursor{1, 0}));
  const TokenBatch again = other.next();
  for (std::int64_t i = 0; i < 24; ++i) EXPECT_EQ(again.tokens[i], first.tokens[i]);
  other.seek({1, 0});
  EXPECT_EQ(other.next().tokens[0], first.tokens[0]);
  EXPECT_THROW(other.seek({0, 3}), Error);
  EXPECT_THROW(other.skip(-1), Error);
  EXPECT_THROW(TextStream(text, {.rows = 13, .length = 8}), Error);
  EXPECT_NO_THROW(TextStream(text, {.rows = 11, .length = 8}).next());
}

TEST_F(LanguageTask, LearnsWhatFollowsWhat) {
  const RunResult result = start_run(config(150), out_ / "run", "unused");
  EXPECT_EQ(result.step, 150);
  const LanguageModel model = load_language_model(out_ / "run");
  const SplitText text = load_language_text(out_ / "run");
  const LanguageScore score = score_text(model, text.test);
  EXPECT_EQ(score.characters, std::int64_t(text.test.size()) - 1);
  EXPECT_EQ(score.unknown, 0);
  EXPECT_LT(score.bits_per_character, 1.7) << "13 characters are 3.7 bits each to one who knows nothing";
  EXPECT_NEAR(result.valid_loss, score_text(model, text.valid).bits_per_character * std::numbers::ln2, 0.15);
  EXPECT_EQ(facts_of(out_ / "run")[0].second, "language-model");
  EXPECT_NE(facts_of(out_ / "run")[3].second.find("different"), std::string::npos);
}

TEST_F(LanguageTask, ResumedEndsWithTheSameBits) {
  start_run(config(16), out_ / "whole", "unused");
  int left = 9;
  start_run(config(16), out_ / "stopped", "unused", {.stop = [&] { return left-- <= 0; }});
  const RunResult result = resume_run(out_ / "stopped", "unused");
  EXPECT_EQ(result.step, 16);
  const Checkpoint a = load_checkpoint(out_ / "whole" / "checkpoint"),
                   b = load_checkpoint(out_ / "stopped" / "checkpoint");
  EXPECT_EQ(a.data, b.data);
  EXPECT_EQ(a.generators, b.generators);
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    EXPECT_EQ(a.weights[i].tensor.to_vector(), b.weights[i].tensor.to_vector()) << a.weights[i].name;

  io::write_file(text_ / "train.txt", rhyme(900, 9));
  EXPECT_NE(message_of([&] { resume_run(out_ / "stopped", "unused"); }).find("sha256"), std::string::npos);
}

TEST_F(LanguageTask, TokensAndAttentionHavePositionsOfTheirOwn) {
  for (const char* added : {"none", "sinusoidal", "learned"}) {
    for (const char* position : {"none", "sinusoidal", "learned", "rotary"}) {
      RunConfig changed = config(2);
      changed.model.token_position = added;
      changed.model.attention.position = position;
      const models::GptOptions options = gpt_options(changed, 20, 24);
      EXPECT_EQ(name_of(options.token_position), added);
      EXPECT_EQ(options.position.name(), position);
      const fs::path run = out_ / (std::string(added) + "_" + position);
      EXPECT_EQ(start_run(changed, run, "unused").step, 2);
      const LanguageModel model = load_language_model(run);
      EXPECT_EQ(model.model->generate({1}, {.max_new_tokens = 50}).size(), 24u) << "up to the end of a learned table";
      std::string told = "scaled_dot";
      if (added != std::string("none")) told += std::string(", token position ") + added;
      if (position != std::string("none")) told += std::string(", position ") + position;
      EXPECT_EQ(facts_of(run)[2], (std::pair<std::string, std::string>("attention", told + ", softmax")));
    }
  }
}

TEST_F(LanguageTask, ARunOfAnOlderProgramGoesOnAsItBegan) {
  // Sines have no weights: were they taken for another position, no checkpoint would object.
  RunConfig sines = config(8);
  sines.model.token_position = "sinusoidal";
  start_run(sines, out_ / "whole", "unused");
  int left = 4;
  start_run(sines, out_ / "older", "unused", {.stop = [&] { return left-- <= 0; }});
  std::string text = io::read_file(out_ / "older/config.toml");
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    text.replace(at, from.size(), to);
  };
  replace("token_position = \"sinusoidal\"\n", "");
  replace("position = \"none\"\n", "position = \"sinusoidal\"\n");
  io::write_file(out_ / "older/config.toml", text);
  EXPECT_EQ(resume_run(out_ / "older", "unused").step, 8);
  const Checkpoint a = load_checkpoint(out_ / "whole/checkpoint"), b = load_checkpoint(out_ / "older/checkpoint");
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    EXPECT_EQ(a.weights[i].tensor.to_vector(), b.weights[i].tensor.to_vector()) << a.weights[i].name;
}

TEST_F(LanguageTask, EveryCharacterIsScoredOnceWithWhatCameBefore) {
  // Against the definition: one character after the other, the window that score_text() has for it.
  start_run(config(3), out_ / "run", "unused");
  const LanguageModel model = load_language_model(out_ / "run");
  for (const std::size_t size : {2u, 9u, 25u, 26u, 61u}) {
    const std::string text = load_language_text(out_ / "run").test.substr(0, size);
    const std::vector<std::int32_t> ids = model.alphabet.encode(text);
    const NoGrad no_grad;
    double bits = 0;
    for (std::size_t i = 1; i < size; ++i) {
      std::size_t from = 0;  // windows of 24 tokens begin at multiples of 12, the last at the end of the text
      while (from + 24 < i) from = std::min(from + 12, size - 1 - 24);
      const std::vector<std::int32_t> before(ids.begin() + std::ptrdiff_t(from), ids.begin() + std::ptrdiff_t(i));
      const auto n = std::int64_t(before.size());
      const std::vector<double> logp = log_softmax(model.model->logits(Ids(before, {1, n}))).to_vector();
      bits -= logp[std::size_t((n - 1) * model.alphabet.size() + ids[i])] / std::numbers::ln2;
    }
    EXPECT_NEAR(score_text(model, text).bits_per_character, bits / double(size - 1), 1e-5) << size;
  }
  EXPECT_EQ(score_text(model, "th\xc3\xa9 cat").unknown, 1);
  EXPECT_THROW(score_text(model, "a"), Error);
}

TEST_F(LanguageTask, SaysWhatDoesNotFit) {
  RunConfig wrong = config(3);
  wrong.model.norm = "post";
  EXPECT_THROW(start_run(wrong, out_ / "post", "unused"), Error);
  wrong = config(3);
  wrong.model.context = 100000;
  EXPECT_NE(message_of([&] { start_run(wrong, out_ / "long", "unused"); }).find("windows"), std::string::npos);
  io::write_file(text_ / "valid.txt", "\xff");
  EXPECT_NE(message_of([&] { start_run(config(3), out_ / "bytes", "unused"); }).find("valid.txt"), std::string::npos);
  fs::remove(text_ / "valid.txt");
  EXPECT_NE(message_of([&] { start_run(config(3), out_ / "none", "unused"); }).find("valid.txt"), std::string::npos);
  EXPECT_THROW(load_language_model(out_ / "nothing"), Error);
  const auto complaint = [](const std::string& text) { return message_of([&] { parse_config(text); }); };
  EXPECT_NE(complaint("task = \"language-model\"\n[train]\nsteps = 1\n").find("`kind` gpt"), std::string::npos);
  EXPECT_NE(
      complaint("task = \"language-model\"\n[model]\nkind = \"gpt\"\n[train]\nsteps = 1\n").find("`source` novels"),
      std::string::npos);
  EXPECT_NE(complaint("[model]\nkind = \"gpt\"\n[train]\nsteps = 1\n").find("`kind` seq2seq_transformer"),
            std::string::npos);
}

TEST(Novels, AreReadOutOfThePackage) {
  const TemporaryFolder folder, tools;
  // The tools of the system, played: the archive "holds" a database that lies ready.
  const fs::path inside = "usr/lib/R/site-library/janeaustenr/data", ready = folder / "ready";
  fs::create_directories(ready / inside);
  std::vector<std::pair<std::string, std::string>> blocks;
  for (const char* name :
       {"emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility"})
    blocks.emplace_back(name,
                        testing_r::r_block(Writer().begin().texts({"", name, "", "", "", "CHAPTER I", "by", ""})));
  testing_r::write_r_database(ready / inside / "Rdata", blocks);
  const auto tool = [&](const std::string& name, const std::string& script) {
    std::ofstream(tools / name) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(tools / name, fs::perms::owner_all);
  };
  tool("apt-get", "echo x > \"$4_1.0_all.deb\"");
  tool("dpkg-deb", "[ \"$1\" = -f ] && { echo 1.0; exit 0; }\ncp -r \"" + ready.string() + "/usr\" \"$3/\"");
  const std::string path = ::getenv("PATH");
  ::setenv("PATH", (tools.path().string() + ":" + path).c_str(), 1);
  const PreparedNovels novels = prepare_novels(folder / "data");
  EXPECT_FALSE(novels.was_there);
  EXPECT_TRUE(prepare_novels(folder / "data").was_there);
  ::setenv("PATH", path.c_str(), 1);

  EXPECT_EQ(novels.version, "1.0");
  EXPECT_EQ(novels.text.valid, "\nnorthangerabbey\n\nCHAPTER I\nby\n") << "never more than two line breaks";
  EXPECT_EQ(novels.text.train.find("\nemma\n\nCHAPTER I\nby\n\n\n\nmansfieldpark\n"), 0u) << "novels stand two apart";
  ASSERT_EQ(novels.warnings.size(), 1u) << "these are not the recorded bytes";
  EXPECT_EQ(read_split_text(folder / "data/novels").test, novels.text.test);
}

}  // namespace
}  // namespace attune::train

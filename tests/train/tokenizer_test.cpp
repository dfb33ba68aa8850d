// Pieces: the round trip, the special numbers, files, and equal models from equal text.
#include "attune/train/tokenizer.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"
#include "attune/io/atomic_file.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

using attune::testing::TemporaryFolder;

/// Sentences of invented words; the words share syllables, so that there is something to learn.
std::vector<std::string> invented_text() {
  const std::vector<std::string> syllables{"gar", "ten", "ro", "se",    "lam", "pe",
                                           "was", "ser", "öl", "straß", "be",  "et"};
  Generator generator(7);
  std::vector<std::string> sentences;
  for (int i = 0; i < 400; ++i) {
    std::string line;
    for (std::uint64_t word = 0, words = 3 + generator.below(6); word < words; ++word) {
      if (!line.empty()) line += ' ';
      for (std::uint64_t s = 0, n = 1 + generator.below(3); s < n; ++s)
        line += syllables[generator.below(syllables.size())];
    }
    sentences.push_back(line + ".");
  }
  return sentences;
}

TEST(Tokenizer, RoundTripForBothKinds) {
  const std::vector<std::string> text = invented_text();
  for (const TokenizerKind kind : {TokenizerKind::unigram, TokenizerKind::bpe}) {
    const Tokenizer tokenizer = Tokenizer::train(text, {.kind = kind, .vocab_size = 80});
    EXPECT_GT(tokenizer.vocab_size(), 30);
    EXPECT_LE(tokenizer.vocab_size(), 80);
    std::size_t pieces = 0, bytes = 0;
    for (const std::string& line : text) {
      const std::vector<std::int32_t> ids = tokenizer.encode(line);
      EXPECT_EQ(tokenizer.decode(ids), line);
      for (const std::int32_t id : ids) EXPECT_GT(id, kEndId);
      pieces += ids.size();
      bytes += line.size();
    }
    EXPECT_LT(pieces * 2, bytes);  // pieces are longer than characters
  }
}

TEST(Tokenizer, SpecialNumbers) {
  const Tokenizer tokenizer = Tokenizer::train(invented_text(), {.vocab_size = 60});
  EXPECT_EQ(tokenizer.pieces(std::vector<std::int32_t>{0, 1, 2, 3}),
            (std::vector<std::string>{"<pad>", "<unk>", "<s>", "</s>"}));
  std::vector<std::int32_t> ids = tokenizer.encode("garten rose");
  EXPECT_EQ(tokenizer.piece(ids[0]).substr(0, 3), "\u2581");
  ids.insert(ids.begin(), kBeginId);
  ids.insert(ids.end(), {kEndId, kPaddingId, kPaddingId});
  EXPECT_EQ(tokenizer.decode(ids), "garten rose");
  EXPECT_EQ(tokenizer.encode(""), std::vector<std::int32_t>{});
  const std::vector<std::int32_t> unknown = tokenizer.encode("漢");
  EXPECT_EQ(unknown.back(), kUnknownId);
  EXPECT_THROW(tokenizer.piece(-1), Error);
  EXPECT_THROW(tokenizer.decode(std::vector<std::int32_t>{std::int32_t(tokenizer.vocab_size())}), Error);
}

TEST(Tokenizer, EqualTextGivesAnEqualModel) {
  const TemporaryFolder folder;
  const std::vector<std::string> text = invented_text();
  Tokenizer::train(text, {.vocab_size = 70}).save(folder / "1");
  Tokenizer::train(text, {.vocab_size = 70}).save(folder / "2");
  EXPECT_EQ(io::read_file(folder / "1"), io::read_file(folder / "2"));
  const Tokenizer loaded = Tokenizer::load(folder / "1");
  EXPECT_EQ(loaded.encode(text[0]), Tokenizer::train(text, {.vocab_size = 70}).encode(text[0]));
}

TEST(Tokenizer, BadInput) {
  const TemporaryFolder folder;
  const std::vector<std::string> text = invented_text();
  EXPECT_THROW(Tokenizer::train({}, {}), Error);
  EXPECT_THROW(Tokenizer::train(std::vector<std::string>{"", ""}, {}), Error);
  EXPECT_THROW(Tokenizer::train(text, {.vocab_size = 0}), Error);
  EXPECT_THROW(Tokenizer::train(text, {.vocab_size = 10}), Error);  // fewer than there are letters
  EXPECT_THROW(Tokenizer::train(text, {.character_coverage = 1.5}), Error);
  EXPECT_THROW(Tokenizer::load(folder / "absent"), Error);
  std::ofstream(folder / "empty").flush();
  EXPECT_THROW(Tokenizer::load(folder / "empty"), Error);
  std::ofstream(folder / "text") << "this is no model";
  EXPECT_THROW(Tokenizer::load(folder / "text"), Error);
  Tokenizer::train(text, {.vocab_size = 60}).save(folder / "model");
  const std::string model = io::read_file(folder / "model");
  for (const std::size_t bytes : {model.size() - 1, model.size() / 2 + 1, std::size_t(11)}) {
    std::ofstream(folder / "cut", std::ios::binary) << model.substr(0, bytes);
    EXPECT_THROW(Tokenizer::load(folder / "cut"), Error) << bytes;
  }
}

}  // namespace
}  // namespace attune::train

#include "attune/train/tokenizer.hpp"

#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"

namespace attune::train {

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
  std::string bytes;  // the model file
};

namespace {

/// The number of threads is part of the result: the trainer adds up one partial sum a thread.
constexpr const char* kTrainerThreads = "4";
/// Only what ends the process would be printed; everything else comes back as a status.
constexpr const char* kLogLevel = "3";

class Sentences final : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(std::span<const std::string> sentences) : sentences_(sentences) {}
  bool done() const override { return at_ >= sentences_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return sentences_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::span<const std::string> sentences_;
  std::size_t at_ = 0;
};

}  // namespace

Tokenizer Tokenizer::train(std::span<const std::string> sentences, const TokenizerOptions& options) {
  if (sentences.empty()) fail("Tokenizer::train", "sentences to learn from", "there are none");
  if (options.vocab_size < 8 || options.vocab_size > 1'000'000)
    fail("Tokenizer::train", "a vocabulary of 8 to 1000000 pieces", fmt::format("{}", options.vocab_size));
  if (!(options.character_coverage >= 0.9 && options.character_coverage <= 1))
    fail("Tokenizer::train", "a character coverage of 0.9 to 1", fmt::format("{}", options.character_coverage));
  Sentences iterator(sentences);
  std::string bytes;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {{"model_type", options.kind == TokenizerKind::unigram ? "unigram" : "bpe"},
       {"vocab_size", fmt::format("{}", options.vocab_size)},
       {"character_coverage", fmt::format("{}", options.character_coverage)},
       {"pad_id", fmt::format("{}", kPaddingId)},
       {"unk_id", fmt::format("{}", kUnknownId)},
       {"bos_id", fmt::format("{}", kBeginId)},
       {"eos_id", fmt::format("{}", kEndId)},
       {"hard_vocab_limit", "false"},
       {"num_threads", kTrainerThreads},
       {"minloglevel", kLogLevel}},
      &iterator, &bytes);
  if (!status.ok())
    fail("Tokenizer::train", "text that yields the pieces asked for",
         fmt::format("{} sentences for {} pieces: {}", sentences.size(), options.vocab_size, status.ToString()));
  return from_bytes(std::move(bytes), "the trained model");
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) { return from_bytes(io::read_file(path), path.string()); }

Tokenizer Tokenizer::from_bytes(std::string bytes, const std::string& origin) {
  auto model = std::make_shared<Model>();
  const auto status = model->processor.LoadFromSerializedProto(bytes);
  if (bytes.empty() || !status.ok())
    fail("Tokenizer", "a SentencePiece model in " + origin, bytes.empty() ? "it is empty" : status.ToString());
  const auto& p = model->processor;
  if (p.pad_id() != kPaddingId || p.unk_id() != kUnknownId || p.bos_id() != kBeginId || p.eos_id() != kEndId)
    fail("Tokenizer", "padding 0, unknown 1, begin 2, end 3 in " + origin,
         fmt::format("{}, {}, {}, {}", p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id()));
  model->bytes = std::move(bytes);
  return Tokenizer(std::move(model));
}

void Tokenizer::save(const std::filesystem::path& path) const { io::write_file(path, model_->bytes); }

std::int64_t Tokenizer::vocab_size() const { return model_->processor.GetPieceSize(); }

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const auto status = model_->processor.Encode(text, &ids);
  if (!status.ok()) fail("Tokenizer::encode", "text", status.ToString());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::vector<int> plain;
  for (const std::int32_t id : ids) {
    check(id);
    if (!model_->processor.IsControl(id)) plain.push_back(id);
  }
  std::string text;
  const auto status = model_->processor.Decode(plain, &text);
  if (!status.ok()) fail("Tokenizer::decode", "piece numbers", status.ToString());
  return text;
}

std::string Tokenizer::piece(std::int32_t id) const {
  check(id);
  return model_->processor.IdToPiece(id);
}

std::vector<std::string> Tokenizer::pieces(std::span<const std::int32_t> ids) const {
  std::vector<std::string> found;
  found.reserve(ids.size());
  for (const std::int32_t id : ids) found.push_back(piece(id));
  return found;
}

void Tokenizer::check(std::int32_t id) const {
  if (id < 0 || id >= vocab_size())
    fail("Tokenizer", fmt::format("a piece number of 0 to {}", vocab_size() - 1), fmt::format("{}", id));
}

}  // namespace attune::train

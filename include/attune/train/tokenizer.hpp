// Sub-word pieces by SentencePiece (Kudo and Richardson, arXiv:1808.06226): trained here, saved as its model file.
// Four pieces are special, always with the same numbers: padding 0, unknown 1, begin 2, end 3.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attune::train {

inline constexpr std::int32_t kPaddingId = 0, kUnknownId = 1, kBeginId = 2, kEndId = 3;

enum class TokenizerKind : std::uint8_t {
  unigram,  // a unigram language model over pieces, arXiv:1804.10959
  bpe       // byte pair encoding, arXiv:1508.07909
};

struct TokenizerOptions {
  TokenizerKind kind = TokenizerKind::unigram;
  std::int64_t vocab_size = 2000;      // pieces, the four special ones included; fewer if the text does not yield them
  double character_coverage = 0.9995;  // share of the characters that get a piece; the rest is unknown
};

/// Text to piece numbers and back. Cheap to copy; const calls are safe from several threads.
class Tokenizer {
 public:
  /// Trains on sentences (for translation: both sides, one vocabulary). Equal sentences and options give an equal
  /// model. Throws Error if there are too few sentences, or more pieces are asked for than the text can yield.
  static Tokenizer train(std::span<const std::string> sentences, const TokenizerOptions& options = {});
  /// Reads a model file. Throws Error if it is missing, is no SentencePiece model or numbers its special pieces
  /// otherwise.
  static Tokenizer load(const std::filesystem::path& path);
  /// Writes the model file, beside and renamed.
  void save(const std::filesystem::path& path) const;

  std::int64_t vocab_size() const;
  /// Without begin and end.
  std::vector<std::int32_t> encode(std::string_view text) const;
  /// Special pieces are left out; throws Error for a number outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const;
  /// A piece for display; a leading space is U+2581 ("\u2581Save"). Throws Error for a number outside the vocabulary.
  std::string piece(std::int32_t id) const;
  std::vector<std::string> pieces(std::span<const std::int32_t> ids) const;

 private:
  struct Model;
  static Tokenizer from_bytes(std::string bytes, const std::string& origin);
  void check(std::int32_t id) const;
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;
};

}  // namespace attune::train

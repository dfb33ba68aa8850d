// Text to pieces, pieces to text, and the attention between them.
#include "attune/train/translator.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/train/batches.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

/// The maps of one layer for a batch of one: weights [1, H, rows, cols].
void add_maps(AttentionPage& page, AttentionKind kind, int layer, const Tensor& weights) {
  const Shape& shape = weights.shape();
  const Tensor numbers = weights.to(DType::float32);
  for (int head = 0; head < int(shape[1]); ++head) {
    const float* first = numbers.data<float>() + head * shape[2] * shape[3];
    page.maps.push_back({kind, layer, head, shape[2], shape[3], {first, first + shape[2] * shape[3]}});
  }
}

}  // namespace

Translator::Translator(std::shared_ptr<models::Seq2SeqTransformer> model, Tokenizer tokenizer)
    : model_(std::move(model)), tokenizer_(std::move(tokenizer)) {
  const models::Seq2SeqOptions& options = model_->options();
  if (options.source_vocab_size != tokenizer_.vocab_size() || options.target_vocab_size != tokenizer_.vocab_size())
    fail("Translator", fmt::format("a model of {} pieces, as the tokenizer has", tokenizer_.vocab_size()),
         fmt::format("{} and {}", options.source_vocab_size, options.target_vocab_size));
}

std::vector<Translation> Translator::translate(std::span<const std::string> sources,
                                               const TranslateOptions& options) const {
  std::vector<SentencePair> pairs;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (unicode::first_invalid(sources[i]) >= 0)
      fail("Translator::translate", "sentences in UTF-8", fmt::format("sentence {} holds other bytes", i + 1));
    pairs.push_back({sources[i], ""});
  }
  const std::vector<TokenPair> all = encode_pairs(tokenizer_, pairs);
  std::vector<TokenPair> tokens;         // of sentences that have any
  std::vector<std::size_t> sentence_of;  // [tokens] index in sources
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].source.size() < 2) continue;  // the end token alone
    tokens.push_back(all[i]);
    sentence_of.push_back(i);
  }
  std::vector<Translation> out(sources.size());
  if (tokens.empty()) return out;
  for (const std::vector<std::int64_t>& which : plan_in_order_of_length(tokens, options.batch_tokens)) {
    const Batch batch = make_batch(tokens, which);
    const auto found = model_->translate(Ids(batch.source, {batch.num_pairs, batch.source_length}), options.search,
                                         options.length_ratio, options.length_extra);
    for (std::size_t row = 0; row < which.size(); ++row) {
      const models::Hypothesis& best = found[row].front();
      out[sentence_of[std::size_t(which[row])]] = {tokenizer_.decode(best.ids), best.ids, best.score, best.finished};
    }
  }
  return out;
}

std::vector<std::string> Translator::translate_texts(std::span<const std::string> sources,
                                                     const TranslateOptions& options) const {
  std::vector<std::string> texts;
  for (Translation& t : translate(sources, options)) texts.push_back(std::move(t.text));
  return texts;
}

std::string Translator::translate(const std::string& source, const TranslateOptions& options) const {
  return translate(std::span(&source, 1), options).front().text;
}

AttentionPage Translator::open_up(const std::string& source, const TranslateOptions& options) const {
  const Translation translation = translate(std::span(&source, 1), options).front();
  std::vector<std::int32_t> read = tokenizer_.encode(source);
  if (read.empty()) fail("Translator::open_up", "a sentence to translate", "an empty one");
  read.push_back(kEndId);
  std::vector<std::int32_t> inputs = translation.ids, written = translation.ids;
  inputs.insert(inputs.begin(), kBeginId);
  if (translation.finished)
    written.push_back(kEndId);
  else
    inputs.pop_back();  // the last piece was written but never read

  AttentionPage page;
  page.title = source;
  page.source_text = source;
  page.target_text = translation.text;
  page.source_tokens = tokenizer_.pieces(read);
  page.target_tokens = tokenizer_.pieces(written);
  page.target_inputs = tokenizer_.pieces(inputs);
  const std::int64_t num_read = std::int64_t(read.size()), num_inputs = std::int64_t(inputs.size());
  const models::Seq2SeqAttention seen =
      model_->attention(Ids(std::move(read), {1, num_read}), Ids(std::move(inputs), {1, num_inputs}));
  for (std::size_t layer = 0; layer < seen.encoder.size(); ++layer)
    add_maps(page, AttentionKind::encoder, int(layer), seen.encoder[layer].self.weights);
  for (std::size_t layer = 0; layer < seen.decoder.size(); ++layer) {
    add_maps(page, AttentionKind::decoder, int(layer), seen.decoder[layer].self.weights);
    add_maps(page, AttentionKind::cross, int(layer), seen.decoder[layer].cross.weights);
  }
  return page;
}

}  // namespace attune::train

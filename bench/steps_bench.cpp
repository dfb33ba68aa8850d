// Whole training steps, beside the same steps in PyTorch (tools/peers/pytorch_models.py): forward, loss, backward,
// clipping, AdamW. GPTs (pre-norm, GELU, learned positions, tied output) and the translation demo's model (dropout and
// label smoothing 0.1). GFLOP/s count 6 operations for each weight and token, and half of the pairs of a causal
// attention; of the translator, whose parts see different tokens, none are counted. runner.hpp says which options there
// are.
#include <memory>
#include <string>
#include <vector>

#include "attune/autograd/ops/loss.hpp"
#include "attune/base/rng.hpp"
#include "attune/models/gpt.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/optim/adam.hpp"
#include "runner.hpp"

namespace {
using namespace attune;

Ids random_tokens(std::uint64_t seed, const Shape& shape, int vocabulary) {
  Generator generator(seed);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < shape.size(); ++i) {
    ids.push_back(4 + std::int32_t(generator.below(std::uint64_t(vocabulary - 4))));  // 0 .. 3 have meanings
  }
  return Ids(std::move(ids), shape);
}

/// One step that the loss and an optimizer make.
template <class Loss>
bench::Call step_of(std::shared_ptr<nn::Module> model, optim::AdamWOptions options, Loss loss) {
  auto optimizer = std::make_shared<optim::AdamW>(model->parameters(), options);
  return [model, optimizer, loss] {
    loss().backward();
    if (!optimizer->advance()) fail("steps_bench", "finite gradients", "one is not");
    optimizer->zero_grad();
  };
}

/// The values of Row::extents: layers, width, heads, batch, tokens, vocabulary.
bench::Row gpt_row(const std::string& shape, int layers, int width, int heads, int batch, int tokens, int vocabulary) {
  bench::Row row;
  row.shape = shape;
  row.extents = {layers, width, heads, batch, tokens, vocabulary};
  row.pass = "step";
  row.variant = "gpt";
  row.causal = true;
  const double block = 12.0 * width * width + 13.0 * width;  // four projections, two of four times the width; norms
  const double weights = layers * block + double(vocabulary) * width + 2 * width;
  row.flops = double(batch) * tokens * (6 * weights + 6.0 * layers * width * tokens);
  row.prepare = [=] {
    set_seed(1);
    auto model = std::make_shared<models::Gpt>(models::GptOptions{
        .vocab_size = vocabulary, .num_layers = layers, .model_dim = width, .num_heads = heads, .context = tokens});
    const Ids ids = random_tokens(1, {batch, tokens}, vocabulary), next = random_tokens(2, {batch, tokens}, vocabulary);
    return step_of(model, {.learning_rate = 3e-4, .weight_decay = 0.01, .clip_norm = 1},
                   [=] { return model->loss(ids, next); });
  };
  return row;
}

/// 2 + 2 layers; `tokens` of the source and as many of the target.
bench::Row translation_row(int width, int heads, int batch, int tokens, int vocabulary) {
  bench::Row row;
  row.shape = "2x" + std::to_string(width);
  row.extents = {2, width, heads, batch, tokens, vocabulary};
  row.pass = "step";
  row.variant = "translation";
  row.ceiling = bench::Ceiling::none;
  row.prepare = [=] {
    set_seed(1);
    auto model = std::make_shared<models::Seq2SeqTransformer>(
        models::Seq2SeqOptions{.source_vocab_size = vocabulary, .model_dim = width, .num_heads = heads});
    const Shape shape{batch, tokens};
    const Ids source = random_tokens(1, shape, vocabulary), target = random_tokens(2, shape, vocabulary),
              next = random_tokens(3, shape, vocabulary);
    return step_of(model, {.learning_rate = 1e-3, .betas = {0.9, 0.98}, .weight_decay = 0.01, .clip_norm = 1}, [=] {
      return cross_entropy((*model)(source, target), next, {.label_smoothing = 0.1, .ignore_index = 0});
    });
  };
  return row;
}
}  // namespace

int main(int argc, char** argv) {
  bench::Bench rows("steps_bench");
  rows.add(gpt_row("4x128", 4, 128, 4, 16, 128, 96));
  rows.add(gpt_row("6x384", 6, 384, 6, 8, 256, 96));
  rows.add(gpt_row("6x384v8k", 6, 384, 6, 8, 256, 8192));
  rows.add(translation_row(128, 4, 32, 32, 2000));
  return rows.run(argc, argv);
}

// RunConfig: a recipe (TOML) as typed values. Everything that a run depends on stands here, with its default; the
// complete configuration is written into the run's folder, so that a run is read without knowing the defaults of the
// day.
//
// A key that is not known, of the wrong type or out of range is an Error that names file and line, and the nearest key
// that there is. Keys, ranges and choices stand once, in src/train/config_fields.hpp.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attune/attention/option_values.hpp"
#include "attune/train/optimizer_config.hpp"

namespace attune::train {

struct DataConfig {
  /// translate: "libreoffice-help", or "tsv" (train.tsv, valid.tsv, test.tsv in `folder`).
  /// language-model: "novels", or "text" (train.txt, valid.txt, test.txt in `folder`). recall makes its own.
  std::string source = "libreoffice-help";
  std::vector<std::string> languages{"en-US", "de"};  // from, to
  std::string folder;                                 // where the files lie; "" is where `attune fetch` puts them
  std::int64_t max_tokens = 100;                      // pairs with this many tokens or more on a side are left out
  std::int64_t pairs = 8, keys = 16, questions = 1;   // recall: in a sequence; to choose from; after the pairs
};

struct TokenizerConfig {
  std::string kind = "unigram";  // "unigram", "bpe"
  std::int64_t vocab_size = 2000;
  double character_coverage = 0.9995;
};

/// The five blanks, by the names of `attune info --mechanisms`: all for which a name and options are enough.
struct AttentionConfig {
  std::string score = "scaled_dot";
  std::string position = "none";  // what happens to queries and keys
  std::vector<std::string> bias;  // in order
  std::vector<std::string> mask;  // joined by &; of the encoder's and, beside "causal", the decoder's self attention
  std::string normalizer = "softmax";
  /// By the names of stages: [model.attention.soft_cap]. What is not said is as the stage has it.
  std::map<std::string, OptionValues, std::less<>> options;
  // Remedies against growing logits (nn::Stability).
  std::string qk_norm = "none";  // "rms", "l2"
  bool output_gate = false;
  bool sigma_reparam = false;
  std::int64_t mup_base_head_dim = 0;  // d: the scale is sqrt(d) / D, muP's, instead of 1 / sqrt(D); 0: off
};

struct ModelConfig {
  std::string kind = "seq2seq_transformer";  // or "gpt"
  std::int64_t num_layers = 2;               // of the encoder, and of the decoder
  std::int64_t model_dim = 128;
  std::int64_t num_heads = 4;
  std::int64_t num_kv_heads = 0;      // 0: num_heads
  std::int64_t feed_forward_dim = 0;  // 0: 4 model_dim
  double dropout = 0.1;
  double attention_dropout = 0;
  std::int64_t context = 256;       // of a language model: tokens that it sees at once
  double init_deviation = 0.02;     // of a gpt: standard deviation of matrices and tables at first
  double embedding_deviation = 0;   // of its embedding table; 0: init_deviation
  double mup_base_width = 0;        // muP: the model_dim whose learning rate this one shares; 0: off
  std::string norm = "pre";         // "pre", "post"
  std::string norm_kind = "layer";  // "layer", "rms"
  std::string activation = "relu";  // "relu", "gelu", "silu"
  bool share_embeddings = true;
  bool tie_output = true;
  /// What is added to token embeddings: "none", "sinusoidal", "learned". "", which no recipe says: by what
  /// attention.position is, see token_position_of().
  std::string token_position;
  AttentionConfig attention;
};

struct TrainConfig {
  double minutes = 0;      // one of minutes and steps is given; a run's config.toml holds steps
  std::int64_t steps = 0;  // updates
  std::int64_t batch_tokens = 1024;
  std::int64_t accumulate = 1;  // batches an update
  double label_smoothing = 0.1;
  double z_loss = 0;            // adds z_loss * (log of the sum of exponentials)^2 a target token
  std::int64_t log_every = 50;  // updates
  std::int64_t checkpoint_every = 500;
  std::int64_t validate_every = 1000;  // 0: never
  bool tensorboard = false;            // write the log's numbers for TensorBoard too
};

/// The attention guard (train/attention_guard.hpp).
struct GuardConfig {
  std::string mode = "off";   // "observe", "lr", "clip", "full"
  std::string rule = "move";  // "quack"
  double limit = 0.04;        // of a head's move, nats an update
  double tight = 0.25;        // share of the limit that a young run gets
  double tight_until = 0.1;   // share of the run that it is young for
  double tau = 100;           // largest |score| before QK-clip, nats
  bool closed_loop = false;
  bool warmup_clock = true;         // mode full: warm-up waits while training does not look healthy
  std::int64_t snapshot_every = 0;  // updates; 0: by the length of the run
  std::int64_t most_rollbacks = 2;
};

struct RunConfig {
  std::string task = "translate";  // "language-model", "recall"
  std::uint64_t seed = 1;
  DataConfig data;
  TokenizerConfig tokenizer;
  ModelConfig model;
  TrainConfig train;
  OptimizerConfig optimizer;
  optim::ScheduleSpec schedule{"linear", {{"warmup", 0.1}}};  // without `total`: it is train.steps
  GuardConfig guard;
};

/// What is added to token embeddings. Where the configuration does not say: "none" if attention has a position,
/// "sinusoidal" if it has none, so that a model knows its order, and `position = "rotary"` alone is rotary alone.
std::string token_position_of(const ModelConfig& model);
/// The longest sequence, tokens, that the model of a configuration is made for.
std::int64_t most_tokens(const RunConfig& config);
/// Throws Error("read_config: <file>:<line>: ...") for anything that is no valid configuration.
RunConfig read_config(const std::filesystem::path& file);
/// The config.toml of a run, which programs of another day may have written: keys of [optimizer] that another optimizer
/// has, and this one never looked at, are passed over; older versions wrote them for every kind. `soft_cap = 30` and
/// `window = 64` of [model.attention] are taken for the tables that hold them today. Where there is no
/// `token_position`, a position "none", "sinusoidal" or "learned" is taken for it, which it was then. All else is as in
/// read_config().
RunConfig read_run_config(const std::filesystem::path& file);
/// The same from text; `name` stands for the file in messages.
RunConfig parse_config(std::string_view text, std::string_view name = "configuration");
/// All keys, as TOML; of [optimizer] those that its kind has. parse_config(config_text(c)) is c, with its
/// token_position said.
std::string config_text(const RunConfig& config);
/// Writes config_text(), beside and renamed.
void write_config(const RunConfig& config, const std::filesystem::path& file);

/// The schedule over train.steps. Throws Error while steps is 0.
optim::Schedule make_schedule(const RunConfig& config);
/// The optimizer over these parameters, or over a model's, whose rows have roles. The schedule is constantly 1
/// until steps, and epochs where the schedule counts in them, are known.
std::unique_ptr<optim::Optimizer> make_optimizer(const RunConfig& config, const std::vector<Tensor>& parameters);
std::unique_ptr<optim::Optimizer> make_optimizer(const RunConfig& config, nn::Module& model);

}  // namespace attune::train

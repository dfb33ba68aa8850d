// attune explain --shape B,H,T,D ...: which kernel such a call takes, how many extra bytes, and why.
#include <fmt/format.h>

#include <memory>
#include <tuple>

#include "attune/attention/attention.hpp"
#include "attune/attention/mechanisms.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "cli/commands.hpp"
#include "cli/stage_text.hpp"

namespace attune::cli {
namespace {

struct ExplainArguments {
  std::vector<int> shape, window;
  int keys = 0, kv_heads = 0, value_dim = 0, threads = 0;
  std::string score = "scaled_dot", normalizer = "softmax", position, dtype = "float32";
  std::vector<std::string> bias, mask;
  bool causal = false, padding = false, json = false;
  double dropout = 0;
};

DType dtype_named(const std::string& name) {
  std::string names;
  for (const DType t : {DType::float32, DType::float64, DType::bfloat16, DType::float16}) {
    if (name_of(t) == name) return t;
    names += (names.empty() ? "" : ", ") + std::string(name_of(t));
  }
  fail("explain", "a dtype: " + names, "got " + name);
}

void explain_call(const ExplainArguments& a) {
  for (const int n : a.shape) {
    if (n < 1) fail("explain", "extents of 1 or more in --shape", fmt::format("got {}", n));
  }
  AttendShape s;
  s.batch_size = a.shape[0], s.num_heads = a.shape[1], s.num_queries = a.shape[2];
  s.num_kv_heads = a.kv_heads ? a.kv_heads : s.num_heads;
  s.num_keys = a.keys ? a.keys : s.num_queries;
  s.query_dim = s.key_dim = a.shape[3];
  s.value_dim = a.value_dim ? a.value_dim : s.key_dim;
  AttendOptions o{.dropout_p = a.dropout};
  const auto named = [&](auto make, const std::string& text) {
    const StageText stage = stage_from_text(text);
    return make(stage.name, stage.options, s);
  };
  o.score = named(score_named, a.score);
  o.normalizer = named(normalizer_named, a.normalizer);
  if (!a.position.empty()) o.position = named(position_named, a.position);
  for (const std::string& text : a.bias) o.bias.push_back(named(bias_named, text));
  const auto add = [&](AnyMask mask) { o.mask = o.mask ? o.mask & mask : mask; };
  if (a.causal) add(Causal{});
  if (!a.window.empty()) add(Window{.left = a.window[0], .right = a.window[1]});
  for (const std::string& text : a.mask) add(named(mask_named, text));
  if (a.padding) add(Padding{std::vector<int>(std::size_t(s.batch_size), s.num_keys)});
  if (a.threads) set_num_threads(a.threads);
  const Explanation e = explain(s, dtype_named(a.dtype), o);
  if (!a.json) {
    const std::string text = e.text();
    return print_line(std::string_view(text).substr(0, text.size() - 1));
  }
  print_json({{"path", e.path},
              {"target", e.target},
              {"threads", num_threads()},
              {"tile_queries", e.tile_queries},
              {"tile_keys", e.tile_keys},
              {"backward_tile_keys", e.backward_tile_keys},
              {"forward_bytes", e.forward_bytes},
              {"backward_bytes", e.backward_bytes},
              {"why", e.why}});
}

}  // namespace

void add_explain(CLI::App& program) {
  auto a = std::make_shared<ExplainArguments>();
  CLI::App* command =
      program.add_subcommand("explain", "Say which kernel a call takes, how many extra bytes, and why.");
  command->add_option("--shape", a->shape, "batch,heads,queries,width")->delimiter(',')->expected(4)->required();
  command->add_option("--keys", a->keys, "keys, if not as many as queries")->check(CLI::PositiveNumber);
  command->add_option("--kv-heads", a->kv_heads, "key heads, if fewer than heads")->check(CLI::PositiveNumber);
  command->add_option("--value-dim", a->value_dim, "width of values, if not that of keys")->check(CLI::PositiveNumber);
  command->add_option("--dtype", a->dtype, "float32, float64, bfloat16 or float16");
  command->add_option("--score", a->score,
                      "NAME or NAME:option=value,..., as all stages; see `attune info --mechanisms`");
  command->add_option("--bias", a->bias, "may be given several times: a chain, in order");
  command->add_option("--position", a->position, "a position stage");
  command->add_option("--normalizer", a->normalizer, "a normalizer");
  command->add_option("--mask", a->mask, "may be given several times: a key is visible if all say so");
  command->add_option("--window", a->window, "left,right: keys that far from a query are visible; -1 all")
      ->delimiter(',')
      ->expected(2);
  command->add_flag("--causal", a->causal, "a query sees the keys up to its own position");
  command->add_flag("--padding", a->padding, "keys are visible up to a number per batch entry");
  command->add_option("--dropout", a->dropout, "probability of a weight to be dropped");
  command->add_option("--threads", a->threads, "memory for so many threads")->check(CLI::PositiveNumber);
  command->add_flag("--json", a->json, "print JSON");
  command->footer("Example:\n  attune explain --shape 1,8,1024,64 --causal --bias soft_cap:cap=12 --bias alibi");
  command->callback([a] { explain_call(*a); });
}

}  // namespace attune::cli

// [model.attention]: which stages it names, and whether they can be built. A recipe's models see sequences of every
// length, so a learned array with a number for each token or pair is refused here.
#include "train/attention_config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "attune/attention/mask/window.hpp"
#include "attune/base/error.hpp"

namespace attune::train {

std::vector<NamedStage> named_stages(const AttentionConfig& a) {
  std::vector<NamedStage> stages{{"score", a.score, "score"}};
  if (a.position != "none") stages.push_back({"position", a.position, "position"});
  for (const std::string& name : a.bias) stages.push_back({"bias", name, "bias"});
  for (const std::string& name : a.mask) stages.push_back({"mask", name, "mask"});
  stages.push_back({"normalizer", a.normalizer, "normalizer"});
  return stages;
}

const OptionValues& options_of(const AttentionConfig& attention, std::string_view name) {
  static const OptionValues nothing;
  const auto found = attention.options.find(name);
  return found == attention.options.end() ? nothing : found->second;
}

AttendShape stage_shape(const ModelConfig& model, std::int64_t tokens) {
  const int width = int(model.model_dim / model.num_heads), n = int(tokens);
  return {1,
          int(model.num_heads),
          int(model.num_kv_heads > 0 ? model.num_kv_heads : model.num_heads),
          n,
          n,
          width,
          width,
          width};
}

namespace {

/// Makes the stage and checks it; throws Error for what cannot be.
void build(const NamedStage& stage, const OptionValues& values, const AttendShape& shape) {
  const auto check = [&](const auto& any) {
    const auto& made = *any.template on<float>();
    made.check(shape);
    AttendShape longer = shape;
    ++longer.num_queries, ++longer.num_keys;
    const auto some = made.parameters(shape), more = made.parameters(longer);
    for (std::size_t n = 0; n < std::min(some.size(), more.size()); ++n) {
      if (some[n].shape == more[n].shape) continue;
      fail(stage.name, "a learned array for sequences of every length",
           fmt::format("`{}` has a shape that follows their length", some[n].name));
    }
  };
  if (stage.kind == "position") check(position_named(stage.name, values, shape));
  if (stage.kind == "score") check(score_named(stage.name, values, shape));
  if (stage.kind == "bias") check(bias_named(stage.name, values, shape));
  if (stage.kind == "mask") mask_named(stage.name, values, shape)->check(shape);
  if (stage.kind == "normalizer") check(normalizer_named(stage.name, values, shape));
}

std::vector<std::string> option_names_of(const NamedStage& stage) {
  std::vector<std::string> names;
  for (const Mechanism& m : mechanisms()) {
    if (m.kind != stage.kind || m.name != stage.name) continue;
    for (const auto& option : m.options) names.push_back(option.name);
  }
  return names;
}

}  // namespace

std::optional<WrongStage> wrong_stage(const ModelConfig& model, std::int64_t tokens) {
  const AttendShape shape = stage_shape(model, tokens);
  if (model.attention.score == "qk_norm" && model.attention.qk_norm != "none")
    return WrongStage{"qk_norm", "`qk_norm` left out with the score qk_norm",
                      "got \"" + model.attention.qk_norm + "\""};
  for (const NamedStage& stage : named_stages(model.attention)) {
    const OptionValues& values = options_of(model.attention, stage.name);
    const std::vector<std::string> names = option_names_of(stage);
    const std::string options = fmt::format("{}", fmt::join(names, ", "));
    for (const auto& [option, value] : values) {
      const std::string key = fmt::format("{}.{}", stage.name, option);
      if (std::find(names.begin(), names.end(), option) == names.end()) {
        return WrongStage{key,
                          names.empty() ? fmt::format("no options of the {} {}", stage.kind, stage.name)
                                        : fmt::format("an option of the {} {}: {}", stage.kind, stage.name, options),
                          fmt::format("got `{}`", option)};
      }
      try {
        complete_options(stage.kind, stage.name, {{option, value}});
      } catch (const Error& error) {
        return WrongStage{key, fmt::format("a valid `{}`", option), error.what()};
      }
    }
    if (stage.name == Window::name && values.empty())  // it would hide nothing
      return WrongStage{stage.key, "a table [model.attention.window] with left, right or both", "got none"};
    try {
      build(stage, values, shape);
    } catch (const Error& error) {
      std::string expectation = fmt::format("a {} {} that a recipe can have", stage.kind, stage.name);
      if (!names.empty()) expectation += fmt::format(" (options: {})", options);
      return WrongStage{values.empty() ? stage.key : stage.name, expectation, error.what()};
    }
  }
  return {};
}

std::map<std::string, OptionValues> complete_stage_options(const AttentionConfig& attention) {
  std::map<std::string, OptionValues> all;
  for (const NamedStage& stage : named_stages(attention)) {
    OptionValues values = complete_options(stage.kind, stage.name, options_of(attention, stage.name));
    if (!values.empty()) all[stage.name] = std::move(values);
  }
  return all;
}

}  // namespace attune::train

// The stages that [model.attention] names, with the options of their tables. Private.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attune/attention/mechanisms.hpp"
#include "attune/train/config.hpp"

namespace attune::train {

/// One filled blank: the kind, the name, and under which key of [model.attention] it stands.
struct NamedStage {
  std::string kind, name, key;
};
/// All of them, in the order of the keys.
std::vector<NamedStage> named_stages(const AttentionConfig&);

/// What is said of a stage of this name; nothing if there is no table.
const OptionValues& options_of(const AttentionConfig&, std::string_view name);
/// The same with every option that was not said: what a run writes down.
std::map<std::string, OptionValues> complete_stage_options(const AttentionConfig&);

/// The extents that stages are made for: a sequence of so many tokens that attends to itself.
AttendShape stage_shape(const ModelConfig&, std::int64_t tokens);

/// What cannot be built, and where: the key below [model.attention].
struct WrongStage {
  std::string key, expectation, finding;
};
std::optional<WrongStage> wrong_stage(const ModelConfig&, std::int64_t tokens);

}  // namespace attune::train

// Recipes as TOML tables, before they become a RunConfig: read, laid over one another, then checked as a whole.
// Private.
#pragma once
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <string_view>

#include "attune/train/config.hpp"

namespace attune::train {

/// Throws Error("<function>: <name>:<line>: valid TOML, ...").
toml::table parse_toml(std::string_view function, std::string_view text, std::string_view name);
/// Who wrote a configuration: somebody who may have erred, or a program.
enum class ConfigSource { recipe, run };
/// As parse_config, or read_run_config.
RunConfig config_from_table(const toml::table& root, std::string_view name, ConfigSource source = ConfigSource::recipe);

}  // namespace attune::train

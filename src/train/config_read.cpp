// From TOML to RunConfig. Every complaint names the file, the line and what would have been right.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/attention_config.hpp"
#include "train/config_fields.hpp"
#include "train/config_table.hpp"

namespace attune::train {
namespace {

using detail::Rule;

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

std::string limits_of(const Rule& rule) {
  std::string text;
  if (std::isfinite(rule.low)) text += fmt::format(" {} {}", rule.above_low ? "above" : "of at least", rule.low);
  if (std::isfinite(rule.high)) {
    text += fmt::format("{} {} {}", text.empty() ? "" : " and", rule.below_high ? "below" : "at most", rule.high);
  }
  return text;
}

/// A value as it stands in the file.
std::string shown(const toml::node& node) {
  std::string text = "a table";
  node.visit([&](const auto& x) {
    using Node = std::remove_cvref_t<decltype(x)>;
    if constexpr (toml::is_string<Node>) {
      text = fmt::format("\"{}\"", *x);
    } else if constexpr (toml::is_boolean<Node>) {
      text = *x ? "true" : "false";
    } else if constexpr (toml::is_number<Node>) {
      text = fmt::format("{}", *x);
    } else if constexpr (toml::is_array<Node>) {
      text = fmt::format("a list of {}", x.size());
    } else if constexpr (toml::is_chronological<Node>) {
      text = "a date or time";
    }
  });
  return text;
}

class Reader {
 public:
  Reader(const toml::table& root, std::string_view file, ConfigSource source)
      : table_(&root), file_(file), source_(source) {}

  template <class T>
  void key(std::string_view name, T& value, const Rule& rule) {
    known_[path_].emplace_back(name);
    const toml::node* node = table_ ? table_->get(name) : nullptr;
    if (!node) return;
    lines_[path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name)] = line_of(*node);
    read(name, *node, value, rule);
  }

  /// A list; a text is a list of one, and "none" of nothing.
  void names(std::string_view name, std::vector<std::string>& value, Rule rule) {
    const toml::node* node = table_ ? table_->get(name) : nullptr;
    if (!node || !node->is_string()) return key(name, value, rule);
    rule.choices.push_back("none");
    std::string one;
    key(name, one, rule);
    value.clear();
    if (one != "none") value.push_back(one);
  }

  /// A key that a stage shares its name with: as a table it holds that stage's options.
  template <class T>
  void key_or_stage(std::string_view name, T& value, const Rule& rule, const AttentionConfig&) {
    if (table_ && table_->contains(name) && (*table_)[name].is_table())
      known_[path_].emplace_back(name);
    else
      key(name, value, rule);
  }

  /// The tables named after stages. To be called after the keys that name the stages.
  void stages(AttentionConfig& attention) {
    const std::vector<std::string> plain_keys = known_[path_];
    for (const NamedStage& stage : named_stages(attention)) known_[path_].push_back(stage.name);
    if (!table_) return;
    std::vector<std::string> all;
    for (const Mechanism& m : mechanisms()) all.push_back(m.name);
    for (const auto& [key, node] : *table_) {
      const std::string name(key.str());
      const auto stages = named_stages(attention);
      const bool named =
          std::any_of(stages.begin(), stages.end(), [&](const NamedStage& stage) { return stage.name == name; });
      if (!named && std::find(all.begin(), all.end(), name) == all.end()) continue;  // finish() knows what it is
      if (!node.is_table() && std::find(plain_keys.begin(), plain_keys.end(), name) != plain_keys.end()) continue;
      lines_[fmt::format("{}.{}", path_, name)] = line_of(node);
      if (source_ == ConfigSource::run && node.is_number() && (name == "soft_cap" || name == "window")) {
        known_[path_].push_back(name);
        if (named) attention.options[name] = options_of_older_versions(name, *node.template value<double>());
        continue;
      }
      if (!node.is_table())
        complain(node, fmt::format("a table [{}.{}] with the options of the stage", path_, name), "got " + shown(node));
      if (!named)
        complain(node, "the options of a stage that [model.attention] names", fmt::format("got those of {}", name));
      OptionValues& values = attention.options[name];
      for (const auto& [option, value] : *node.as_table()) {
        lines_[fmt::format("{}.{}.{}", path_, name, option.str())] = line_of(value);
        values[std::string(option.str())] = option_value(option.str(), value);
      }
    }
  }

  template <class Body>
  void table(std::string_view name, Body&& body) {
    known_[path_].emplace_back(name);
    const toml::node* node = table_ ? table_->get(name) : nullptr;
    if (node && !node->is_table()) complain(*node, fmt::format("a table [{}]", name), "got " + shown(*node));
    const std::string path = path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
    if (node) lines_[path] = line_of(*node);
    within(node ? node->as_table() : nullptr, path, body);
  }

  void schedule(std::string_view name, optim::ScheduleSpec& spec) {
    table(name, [&] {
      if (table_) spec = schedule_here(spec.kind, false);
    });
  }

  /// To be called last: the first key in the file that nothing asked for is an error.
  void finish() {
    look_for_unknown_keys();
    if (source_ == ConfigSource::run) {
      std::erase_if(unknown_,
                    [](const Unknown& u) { return u.path == "optimizer" && !optimizers_with(u.key).empty(); });
    }
    if (unknown_.empty()) return;
    const Unknown& first = *std::min_element(unknown_.begin(), unknown_.end(),
                                             [](const Unknown& a, const Unknown& b) { return a.line < b.line; });
    const std::string place = first.path.empty() ? "a key of the recipe" : fmt::format("a key of [{}]", first.path);
    if (const auto owners = optimizers_with(first.key); first.path == "optimizer" && !owners.empty()) {
      complain(first.line, place, fmt::format("got `{}`, a key of {}", first.key, fmt::join(owners, ", ")));
    }
    for (const auto& [path, keys] : known_) {
      if (std::find(keys.begin(), keys.end(), first.key) != keys.end()) {
        complain(first.line, place,
                 path.empty() ? fmt::format("got `{}`, which belongs above the first table", first.key)
                              : fmt::format("got `{}`, which belongs in [{}]", first.key, path));
      }
    }
    complain(first.line, place,
             fmt::format("got `{}`; the nearest is `{}`", first.key, nearest(first.key, known_.at(first.path))));
  }

  /// The line of a key or table by its path ("train.steps"), else of the nearest thing around it that is there.
  std::size_t line(std::string path) const {
    while (true) {
      if (const auto found = lines_.find(path); found != lines_.end()) return found->second;
      const std::size_t dot = path.rfind('.');
      if (dot == std::string::npos) return 1;
      path.resize(dot);
    }
  }

  [[noreturn]] void complain(std::size_t line, std::string_view expectation, std::string_view finding) const {
    fail("read_config", fmt::format("{}:{}: {}", file_, line, expectation), finding);
  }

 private:
  struct Unknown {
    std::string path, key;
    std::size_t line;
  };

  static std::size_t line_of(const toml::node& node) { return node.source().begin.line; }

  [[noreturn]] void complain(const toml::node& node, std::string_view expectation, std::string_view finding) const {
    complain(line_of(node), expectation, finding);
  }

  static OptionValues options_of_older_versions(const std::string& name, double x) {
    return name == "window" ? OptionValues{{"left", x}, {"right", x}} : OptionValues{{"cap", x}};
  }

  OptionValue option_value(std::string_view name, const toml::node& node) {
    if (node.is_boolean()) return *node.value<bool>();
    if (node.is_number()) return *node.value<double>();
    if (node.is_string()) return *node.value<std::string>();
    std::vector<double> list;
    read(name, node, list, {});
    return list;
  }

  /// Does something with another table as the one where keys are looked for.
  template <class Body>
  void within(const toml::table* table, const std::string& path, Body&& body) {
    const toml::table* above = std::exchange(table_, table);
    const std::string path_above = std::exchange(path_, path);
    body();
    look_for_unknown_keys();
    table_ = above;
    path_ = path_above;
  }

  /// The schedule in the present table. Only those inside another one may say `total`: the run's is train.steps.
  optim::ScheduleSpec schedule_here(const std::string& default_kind, bool inside) {
    optim::ScheduleSpec spec{default_kind, {}};
    const std::vector<std::string> kinds = optim::schedule_kinds();
    key("kind", spec.kind, detail::one_of({kinds.begin(), kinds.end()}));
    for (const std::string& field : optim::schedule_fields(spec.kind)) {
      if (field == "total" && !inside) continue;
      known_[path_].push_back(field);
      if (const toml::node* node = table_->get(field)) spec.fields.emplace_back(field, schedule_value(field, *node));
    }
    return spec;
  }

  optim::ScheduleSpec schedule_inside(const std::string& path, const toml::node& node) {
    optim::ScheduleSpec spec;
    if (!node.is_table()) complain(node, fmt::format("`{}`, a schedule", path), "got " + shown(node));
    within(node.as_table(), path, [&] {
      if (!table_->contains("kind")) complain(node, fmt::format("a `kind` of the schedule {}", path), "got none");
      spec = schedule_here("", true);
    });
    return spec;
  }

  optim::ScheduleValue schedule_value(const std::string& field, const toml::node& node) {
    const std::string path = fmt::format("{}.{}", path_, field);
    if (node.is_number()) return *node.value<double>();
    if (node.is_string()) return *node.value<std::string>();
    if (node.is_boolean()) return *node.value<bool>();
    if (const toml::table* table = node.as_table()) {
      optim::ScheduleGroups groups;
      for (const auto& [group, inside] : *table) {
        groups.push_back({std::string(group.str()), schedule_inside(fmt::format("{}.{}", path, group.str()), inside)});
      }
      return groups;
    }
    const toml::array* array = node.as_array();
    if (array && !array->empty() && array->is_homogeneous<toml::table>()) {
      std::vector<optim::ScheduleSpec> specs;
      for (const toml::node& inside : *array) {
        specs.push_back(schedule_inside(fmt::format("{}[{}]", path, specs.size()), inside));
      }
      return specs;
    }
    std::vector<std::variant<double, std::string>> list;
    for (std::size_t i = 0; array && i < array->size(); ++i) {
      const toml::node& item = (*array)[i];
      if (!item.is_number() && !item.is_string()) {
        complain(item, fmt::format("`{}`, numbers or texts", field), "got " + shown(item));
      }
      if (item.is_number()) {
        list.emplace_back(*item.value<double>());
      } else {
        list.emplace_back(*item.value<std::string>());
      }
    }
    if (!array) complain(node, fmt::format("`{}`, a number, a text or a list", field), "got " + shown(node));
    return list;
  }

  void look_for_unknown_keys() {
    if (!table_) return;
    const std::vector<std::string>& known = known_[path_];
    for (const auto& [key, node] : *table_) {
      if (std::find(known.begin(), known.end(), key.str()) == known.end()) {
        unknown_.push_back({path_, std::string(key.str()), std::size_t(key.source().begin.line)});
      }
    }
  }

  template <class T>
  void read(std::string_view name, const toml::node& node, T& value, const Rule& rule) {
    if constexpr (std::is_same_v<T, bool>) {
      if (!node.is_boolean()) complain(node, fmt::format("`{}`, true or false", name), "got " + shown(node));
      value = *node.value<bool>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      read_text(name, node, value, rule);
    } else if constexpr (std::is_integral_v<T>) {
      if (!node.is_integer()) {
        complain(node, fmt::format("`{}`, a whole number{}", name, limits_of(rule)), "got " + shown(node));
      }
      const std::int64_t x = *node.value<std::int64_t>();
      check_limits(name, node, double(x), rule);
      value = T(x);
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!node.is_number()) {
        complain(node, fmt::format("`{}`, a number{}", name, limits_of(rule)), "got " + shown(node));
      }
      value = *node.value<double>();
      check_limits(name, node, value, rule);
    } else {
      read_list(name, node, value, rule);
    }
  }

  void check_limits(std::string_view name, const toml::node& node, double x, const Rule& rule) const {
    const bool low = rule.above_low ? x > rule.low : x >= rule.low;  // false for NaN
    const bool high = rule.below_high ? x < rule.high : x <= rule.high;
    if (!low || !high) complain(node, fmt::format("`{}`, a number{}", name, limits_of(rule)), "got " + shown(node));
  }

  void read_text(std::string_view name, const toml::node& node, std::string& value, const Rule& rule) {
    std::vector<std::string> choices(rule.choices.begin(), rule.choices.end());
    if (!rule.mechanism.empty()) {
      for (const Mechanism& m : mechanisms()) {
        if (m.kind == rule.mechanism) choices.push_back(m.name);
      }
    }
    const std::string expectation = choices.empty() ? fmt::format("`{}`, a text", name)
                                                    : fmt::format("`{}`, one of {}", name, fmt::join(choices, ", "));
    if (!node.is_string()) complain(node, expectation, "got " + shown(node));
    value = *node.value<std::string>();
    if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end()) {
      complain(node, expectation, fmt::format("got \"{}\"; the nearest is \"{}\"", value, nearest(value, choices)));
    }
  }

  /// A vector of any length or an array of its length.
  template <class List>
  void read_list(std::string_view name, const toml::node& node, List& value, const Rule& rule) {
    const toml::array* list = node.as_array();
    if (!list) complain(node, fmt::format("`{}`, a list", name), "got " + shown(node));
    if constexpr (IsVector<List>::value) {
      value.assign(list->size(), {});
    } else if (list->size() != value.size()) {
      complain(node, fmt::format("`{}`, a list of {}", name, value.size()), "got " + shown(node));
    }
    for (std::size_t i = 0; i < value.size(); ++i) read(name, (*list)[i], value[i], rule);
  }

  const toml::table* table_;
  std::string file_, path_;
  ConfigSource source_;
  std::map<std::string, std::vector<std::string>> known_;  // keys by table
  std::map<std::string, std::size_t> lines_;
  std::vector<Unknown> unknown_;
};

/// Before there was `token_position`, these names of `position` meant what is added to token embeddings.
void take_older_position(ModelConfig& model) {
  std::string& position = model.attention.position;
  if (position == "none" || position == "sinusoidal" || position == "learned")
    model.token_position = std::exchange(position, "none");
}

/// Whether a schedule, or one inside it, hears how validation goes.
bool hears_validation(const optim::ScheduleSpec& spec) {
  bool hears = spec.kind == optim::schedule::ReduceOnPlateau::name;
  for (const auto& [field, value] : spec.fields) {
    const auto* inside = std::get_if<std::vector<optim::ScheduleSpec>>(&value);
    hears = hears || (inside && std::any_of(inside->begin(), inside->end(), hears_validation));
  }
  return hears;
}

/// What concerns more than one key.
void check_together(const RunConfig& c, const Reader& reader) {
  const auto expect_at = [&](bool holds, const char* path, std::string_view expectation, const std::string& finding) {
    if (!holds) reader.complain(reader.line(path), expectation, finding);
  };
  const TrainConfig& t = c.train;
  expect_at((t.minutes > 0) != (t.steps > 0), t.steps > 0 ? "train.minutes" : "train",
            "one of `minutes` and `steps` above 0", fmt::format("got {} minutes and {} steps", t.minutes, t.steps));
  expect_at(t.validate_every > 0 || !hears_validation(c.schedule), "train.validate_every",
            "`validate_every` above 0 with a schedule \"plateau\"", "got 0");
  const ModelConfig& m = c.model;
  expect_at(m.model_dim % m.num_heads == 0, "model.num_heads", "`model_dim`, a multiple of `num_heads`",
            fmt::format("got {} and {}", m.model_dim, m.num_heads));
  expect_at(m.num_kv_heads == 0 || m.num_heads % m.num_kv_heads == 0, "model.num_kv_heads",
            "`num_heads`, a multiple of `num_kv_heads`", fmt::format("got {} and {}", m.num_heads, m.num_kv_heads));
  if (const auto wrong = wrong_stage(m, most_tokens(c)))
    expect_at(false, ("model.attention." + wrong->key).c_str(), wrong->expectation, wrong->finding);
  if (m.mup_base_width > 0) {
    // Others divide by norms, singular values or nothing, and need other powers of the width, or take no factors.
    const std::array<std::string_view, 7> kin{"adam", "adamw", "nadam", "radam", "lion", "ademamix", "schedule_free"};
    expect_at(std::find(kin.begin(), kin.end(), c.optimizer.kind) != kin.end(), "model.mup_base_width",
              fmt::format("one of the optimizers {} with `mup_base_width`", fmt::join(kin, ", ")),
              fmt::format("got {}", c.optimizer.kind));
    expect_at(m.attention.score == "scaled_dot", "model.mup_base_width", "the score scaled_dot with `mup_base_width`",
              fmt::format("got {}", m.attention.score));
    expect_at(c.optimizer.groups.base_width == 0 || c.optimizer.groups.base_width == m.mup_base_width,
              "model.mup_base_width", "`base_width` of [optimizer.groups] left out with `mup_base_width`",
              fmt::format("got {}", c.optimizer.groups.base_width));
  }
  const bool translates = c.task == "translate";
  const std::string kind = translates ? "seq2seq_transformer" : "gpt";
  expect_at(m.kind == kind, "model.kind", fmt::format("`kind` {} for the task {}", kind, c.task),
            fmt::format("got \"{}\"", m.kind));
  expect_at(m.kind != "gpt" || m.norm == "pre", "model.norm", "`norm` pre in a model gpt", "got \"post\"");
  if (translates || c.task == "language-model") {
    const std::string_view fetched = translates ? "libreoffice-help" : "novels", own = translates ? "tsv" : "text";
    expect_at(c.data.source == fetched || c.data.source == own, "data.source",
              fmt::format("`source` {} or {} for the task {}", fetched, own, c.task),
              fmt::format("got \"{}\"", c.data.source));
  }
  expect_at(c.data.keys >= c.data.pairs, "data.keys", "`keys`, at least as many as `pairs`",
            fmt::format("got {} and {}", c.data.keys, c.data.pairs));
  expect_at(!translates || c.data.languages.size() == 2, "data.languages", "`languages`, two of them",
            fmt::format("got {}", c.data.languages.size()));
  const bool own_files = c.data.source == "tsv" || c.data.source == "text";
  expect_at(!own_files || !c.data.folder.empty(), "data.source",
            fmt::format("`folder` with the source \"{}\"", c.data.source), "got none");
  expect_at(!c.optimizer.nesterov || c.optimizer.momentum > 0, "optimizer.nesterov",
            "`momentum` above 0 with `nesterov`", "got 0");
}

}  // namespace

toml::table parse_toml(std::string_view function, std::string_view text, std::string_view name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    std::string reason(error.description());
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    fail(function, fmt::format("{}:{}: valid TOML", name, error.source().begin.line), reason);
  }
}

RunConfig parse_config(std::string_view text, std::string_view name) {
  return config_from_table(parse_toml("read_config", text, name), name);
}

RunConfig config_from_table(const toml::table& root, std::string_view name, ConfigSource source) {
  RunConfig config;
  Reader reader(root, name, source);
  detail::visit_fields(config, reader);
  reader.finish();
  const toml::node_view<const toml::node> model = root["model"];
  if (source == ConfigSource::run && !model["token_position"] && model["attention"]["position"])
    take_older_position(config.model);
  check_together(config, reader);
  try {
    config.schedule = detail::complete_schedule(config.schedule, config.train.steps);
  } catch (const Error& error) {
    fail("read_config", fmt::format("{}:{}: a valid [schedule]", name, reader.line("schedule")), error.what());
  }
  return config;
}

RunConfig read_config(const std::filesystem::path& file) { return parse_config(io::read_file(file), file.string()); }

RunConfig read_run_config(const std::filesystem::path& file) {
  return config_from_table(parse_toml("read_config", io::read_file(file), file.string()), file.string(),
                           ConfigSource::run);
}

}  // namespace attune::train

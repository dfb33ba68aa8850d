// From RunConfig to TOML, and to the optimizer and schedule that it describes.
#include "attune/train/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>
#include <variant>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "train/attention_config.hpp"
#include "train/config_fields.hpp"

namespace attune::train {
namespace detail {

optim::Schedule schedule_over(optim::ScheduleSpec spec, std::int64_t steps) {
  spec.fields.emplace_back("total", double(steps));
  return optim::Schedule::from_spec(spec);
}

optim::ScheduleSpec complete_schedule(const optim::ScheduleSpec& spec, std::int64_t steps) {
  // While the number of steps is open, a total that no number of warm-up steps exceeds; lengths in epochs and tokens
  // wait until the data are known.
  if (!optim::counts_in_data(spec)) schedule_over(spec, steps > 0 ? steps : std::int64_t(1) << 50);
  optim::ScheduleSpec complete = optim::complete_spec(spec);
  std::erase_if(complete.fields, [](const auto& field) { return field.first == "total"; });
  return complete;
}

}  // namespace detail

namespace {

std::string toml_of(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04X}", int(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string toml_of(bool x) { return x ? "true" : "false"; }
template <class T>
requires std::is_arithmetic_v<T> std::string toml_of(T x) {
  std::string text = fmt::format("{}", x);  // the shortest that reads back as the same number
  if (std::is_floating_point_v<T> && text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

template <class List>
requires requires(const List& list) {
  list.begin();
  list.size();
}
std::string toml_of(const List& list);

std::string toml_of(const optim::ScheduleSpec& spec);
std::string toml_of(const optim::ScheduleGroups& groups) {
  std::string out = "{";
  for (const auto& [group, spec] : groups) {
    out += fmt::format("{}{} = {}", out.size() > 1 ? ", " : "", toml_of(group), toml_of(spec));
  }
  return out + "}";
}
template <class... T>
std::string toml_of(const std::variant<T...>& value) {
  return std::visit([](const auto& x) { return toml_of(x); }, value);
}
std::string toml_of(const optim::ScheduleSpec& spec) {
  std::string out = "{kind = " + toml_of(spec.kind);
  for (const auto& [field, value] : spec.fields) out += fmt::format(", {} = {}", field, toml_of(value));
  return out + "}";
}

template <class List>
requires requires(const List& list) {
  list.begin();
  list.size();
}
std::string toml_of(const List& list) {
  std::string out = "[";
  for (const auto& x : list) out += (out.size() > 1 ? ", " : "") + toml_of(x);
  return out + "]";
}

class Writer {
 public:
  template <class T>
  void key(std::string_view name, const T& value, const detail::Rule&) {
    text += fmt::format("{} = {}\n", name, toml_of(value));
  }
  void names(std::string_view name, const std::vector<std::string>& value, const detail::Rule& rule) {
    key(name, value, rule);
  }
  template <class Body>
  void table(std::string_view name, Body&& body) {
    const std::string above = path_;
    path_ = path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
    text += fmt::format("\n[{}]\n", path_);
    body();
    path_ = above;
  }
  template <class T>
  void key_or_stage(std::string_view name, const T& value, const detail::Rule& rule, const AttentionConfig& attention) {
    const auto stages = named_stages(attention);
    if (std::none_of(stages.begin(), stages.end(), [&](const NamedStage& s) { return s.name == name; }))
      key(name, value, rule);
  }
  void stages(const AttentionConfig& attention) {
    for (const auto& [stage, values] : complete_stage_options(attention)) {
      table(stage, [&, &all = values] {
        for (const auto& [option, value] : all) text += fmt::format("{} = {}\n", option, toml_of(value));
      });
    }
  }
  void schedule(std::string_view name, const optim::ScheduleSpec& spec) {
    table(name, [&] {
      text += "kind = " + toml_of(spec.kind) + "\n";
      for (const auto& [field, value] : spec.fields) text += fmt::format("{} = {}\n", field, toml_of(value));
    });
  }

  std::string text;

 private:
  std::string path_;
};

}  // namespace

std::string token_position_of(const ModelConfig& model) {
  if (!model.token_position.empty()) return model.token_position;
  return model.attention.position == "none" ? "sinusoidal" : "none";
}

std::int64_t most_tokens(const RunConfig& config) {
  return config.task == "translate" ? std::max<std::int64_t>(256, 2 * config.data.max_tokens) : config.model.context;
}

std::string config_text(const RunConfig& config) {
  RunConfig complete = config;
  complete.model.token_position = token_position_of(config.model);
  complete.schedule = detail::complete_schedule(config.schedule, config.train.steps);
  Writer writer;
  detail::visit_fields(std::as_const(complete), writer);
  return writer.text;
}

void write_config(const RunConfig& config, const std::filesystem::path& file) {
  io::write_file(file, config_text(config));
}

optim::Schedule make_schedule(const RunConfig& config) {
  if (config.train.steps <= 0) {
    fail("make_schedule", "a number of steps above 0", fmt::format("got {}", config.train.steps));
  }
  return detail::schedule_over(config.schedule, config.train.steps);
}

namespace {

optim::Schedule schedule_so_far(const RunConfig& config) {
  const bool known = config.train.steps > 0 && !optim::counts_in_data(config.schedule);
  return known ? make_schedule(config) : optim::Schedule();
}

/// [optimizer] with the rates of muP, which [model] asks for.
OptimizerConfig with_width(const RunConfig& config) {
  OptimizerConfig c = config.optimizer;
  if (config.model.mup_base_width > 0) c.groups.base_width = config.model.mup_base_width;
  return c;
}

}  // namespace

std::unique_ptr<optim::Optimizer> make_optimizer(const RunConfig& config, const std::vector<Tensor>& parameters) {
  return make_optimizer(with_width(config), schedule_so_far(config), parameters);
}

std::unique_ptr<optim::Optimizer> make_optimizer(const RunConfig& config, nn::Module& model) {
  return make_optimizer(with_width(config), schedule_so_far(config), model);
}

}  // namespace attune::train

// A sweep's plan: from its TOML file to complete recipes, one for each run.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/sweep.hpp"
#include "train/config_table.hpp"
#include "train/sha256.hpp"

namespace attune::train {
namespace {

/// Reads the plan's own keys; recipes answer for theirs.
class PlanReader {
 public:
  explicit PlanReader(const std::filesystem::path& file)
      : name_(file.string()), root_(parse_toml("read_sweep", io::read_file(file), name_)) {}
  const toml::table& root() const { return root_; }

  [[noreturn]] void complain(const toml::node* node, std::string_view expectation, std::string_view finding) const {
    fail("read_sweep",
         node ? fmt::format("{}:{}: {}", name_, node->source().begin.line, expectation)
              : fmt::format("{}: {}", name_, expectation),
         finding);
  }
  void only(const toml::table& table, const std::vector<std::string_view>& keys) const {
    for (const auto& [key, node] : table) {
      if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
      std::vector<std::string> valid(keys.begin(), keys.end());
      complain(&node, fmt::format("a key that a plan knows (nearest: {})", nearest(key.str(), valid)),
               std::string(key.str()));
    }
  }
  template <class T>
  std::vector<T> list(const toml::table& table, std::string_view key, std::string_view what) const {
    const toml::node* node = table.get(key);
    std::vector<T> out;
    if (node && node->is_array()) {
      for (const toml::node& item : *node->as_array()) {
        const auto value = item.value<T>();
        if (!value) complain(&item, what, "another type");
        out.push_back(*value);
      }
    }
    if (out.empty())
      complain(node, fmt::format("`{}`: {}, one or more", key, what), node ? "an empty list or no list" : "none");
    return out;
  }

 private:
  std::string name_;
  toml::table root_;
};

/// What `over` says stands in `base` afterwards; tables are merged key by key.
void lay_over(toml::table& base, const toml::table& over) {
  for (const auto& [key, node] : over) {
    toml::node* below = base.get(key.str());
    if (node.is_table() && below && below->is_table()) {
      lay_over(*below->as_table(), *node.as_table());
    } else {
      base.insert_or_assign(key, node);
    }
  }
}

void set_number(toml::table& table, std::string_view path, double value) {
  toml::table* at = &table;
  for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    const std::string_view head = path.substr(0, dot);
    if (!at->get(head)) at->insert(head, toml::table{});
    at = at->get(head)->as_table();
    if (!at) fail("read_sweep", fmt::format("a table {}", head), "another value");
    path.remove_prefix(dot + 1);
  }
  at->insert_or_assign(path, value);
}

}  // namespace

SweepPlan read_sweep(const std::filesystem::path& file) {
  const PlanReader plan(file);
  const toml::table& root = plan.root();
  plan.only(root, {"recipes", "seeds", "steps", "score", "axis", "remedy"});
  SweepPlan out;
  out.name = file.stem().string();
  const std::vector<std::string> recipes = plan.list<std::string>(root, "recipes", "names of recipes");
  for (const std::int64_t seed : plan.list<std::int64_t>(root, "seeds", "whole numbers"))
    out.seeds.push_back(std::uint64_t(seed));
  const std::int64_t steps = root["steps"].value_or(std::int64_t(0));
  out.score = root["score"].value_or(false);

  const toml::table* axis = root["axis"].as_table();
  if (!axis) plan.complain(nullptr, "a table [axis]", "none");
  plan.only(*axis, {"label", "keys", "values"});
  const std::vector<std::string> keys = plan.list<std::string>(*axis, "keys", "keys of recipes");
  out.values = plan.list<double>(*axis, "values", "numbers");
  if (!std::is_sorted(out.values.begin(), out.values.end(), std::less_equal<>()))
    plan.complain(axis->get("values"), "`values` that increase", "others");
  out.axis_label = (*axis)["label"].value_or(keys.front());
  out.axis_is_learning_rate = keys == std::vector<std::string>{"optimizer.learning_rate"};

  const toml::array* remedies = root["remedy"].as_array();
  if (!remedies || remedies->empty()) plan.complain(nullptr, "tables [[remedy]], one or more", "none");
  std::vector<toml::table> settings;
  for (const toml::node& node : *remedies) {
    const toml::table* remedy = node.as_table();
    const auto name = remedy ? (*remedy)["name"].value<std::string>() : std::nullopt;
    if (!name) plan.complain(&node, "a [[remedy]] with a `name`", "none");
    plan.only(*remedy, {"name", "set"});
    if (std::find(out.remedies.begin(), out.remedies.end(), *name) != out.remedies.end())
      plan.complain(&node, "remedies of different names", fmt::format("two of the name {}", *name));
    out.remedies.push_back(*name);
    settings.push_back((*remedy)["set"].is_table() ? *(*remedy)["set"].as_table() : toml::table{});
  }

  for (const std::string& recipe : recipes) {
    const std::filesystem::path path = file.parent_path() / recipe;
    const toml::table base = parse_toml("read_sweep", io::read_file(path), path.string());
    out.recipes.push_back(path.stem().string());
    for (std::size_t r = 0; r < settings.size(); ++r) {
      for (const double value : out.values) {
        for (const std::uint64_t seed : out.seeds) {
          toml::table table = base;
          lay_over(table, settings[r]);
          for (const std::string& key : keys) set_number(table, key, value);
          SweepRun run{out.recipes.back(),
                       out.remedies[r],
                       seed,
                       value,
                       config_from_table(table, fmt::format("{} with remedy {}", path.string(), out.remedies[r])),
                       ""};
          run.config.seed = seed;
          if (steps > 0) run.config.train.steps = steps, run.config.train.minutes = 0;
          run.hash = sha256_hex(config_text(run.config)).substr(0, 16);
          out.runs.push_back(std::move(run));
        }
      }
    }
  }
  return out;
}

std::vector<SweepPlan> read_sweeps(const std::filesystem::path& file) {
  const PlanReader plan(file);
  if (!plan.root().contains("plans")) return {read_sweep(file)};
  plan.only(plan.root(), {"plans"});
  std::vector<SweepPlan> out;
  for (const std::string& name : plan.list<std::string>(plan.root(), "plans", "names of plans")) {
    out.push_back(read_sweep(file.parent_path() / name));
    for (std::size_t i = 0; i + 1 < out.size(); ++i)
      if (out[i].name == out.back().name)
        plan.complain(plan.root().get("plans"), "plans of different names", fmt::format("two of the name {}", name));
  }
  return out;
}

}  // namespace attune::train

// attune schedule list | print | plot: what a learning-rate schedule does, before a run depends on it.
//
// A SPEC is a recipe (.toml), JSON ({"kind": "cosine", "total": 2000}, or a .json file), or words with commas:
// cosine,warmup=0.05,total=2000,min_ratio=0.1
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/optim/schedule.hpp"
#include "attune/train/chart.hpp"
#include "attune/train/config.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct ScheduleArguments {
  std::vector<std::string> specs;
  std::int64_t total = 0, every = 0;
  double rate = 0, steps_per_epoch = 0, tokens_per_step = 0;
  std::string out = "schedule.svg";
  bool momentum = false, json = false;
};

/// A schedule over its steps, with the rate that its factor multiplies; one for each group of a per_group.
struct Planned {
  std::string name;
  optim::Schedule schedule;
  std::int64_t total = 0;
  double rate = 1;
};

optim::ScheduleValue short_value(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  if (text == "true" || text == "false") return text == "true";
  return text;
}

/// "cosine,warmup=0.05,total=2000"
optim::ScheduleSpec short_spec(std::string_view text) {
  optim::ScheduleSpec spec;
  for (bool first = true; first || !text.empty(); first = false) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string word(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (first) {
      spec.kind = word;
      continue;
    }
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) fail("schedule", "field=value behind the kind of a schedule", "got " + word);
    spec.fields.emplace_back(word.substr(0, equals), short_value(word.substr(equals + 1)));
  }
  return spec;
}

std::int64_t total_of(const optim::ScheduleSpec& spec) {
  double total = 0;
  for (const auto& [field, value] : spec.fields) {
    if (field == "total" && std::holds_alternative<double>(value)) total = std::get<double>(value);
  }
  return std::int64_t(total);
}

void plan(const std::string& text, const ScheduleArguments& a, std::vector<Planned>& out) {
  optim::ScheduleSpec spec;
  double rate = a.rate;
  std::int64_t total = a.total;
  std::string name;
  if (text.ends_with(".toml")) {
    const train::RunConfig config = train::read_config(text);
    spec = config.schedule;
    if (rate == 0) rate = config.optimizer.learning_rate;
    if (total == 0) total = config.train.steps;
    name = std::filesystem::path(text).stem();
  } else {
    const bool file = text.ends_with(".json");
    spec = file || text.starts_with('{') ? optim::spec_from_json(file ? io::read_file(text) : text) : short_spec(text);
    name = file ? std::filesystem::path(text).stem().string() : spec.kind;
  }
  if (total > 0) spec.fields.emplace_back("total", double(total));
  spec = optim::in_steps(spec, {.steps_per_epoch = a.steps_per_epoch, .tokens_per_step = a.tokens_per_step});
  const optim::Schedule schedule = optim::Schedule::from_spec(spec);
  total = total_of(spec);
  if (total < 1) fail("schedule", "a total, in the schedule or as --total", fmt::format("none for {}", text));
  std::vector<std::string> groups = schedule.groups();
  if (groups.empty()) return out.push_back({name, schedule, total, rate > 0 ? rate : 1});
  groups.emplace_back(optim::schedule::PerGroup::kOtherwise);
  for (const std::string& group : groups) {
    out.push_back({fmt::format("{} {}", name, group), schedule.for_group(group), total, rate > 0 ? rate : 1});
  }
}

std::vector<Planned> planned(const ScheduleArguments& a) {
  std::vector<Planned> all;
  for (const std::string& spec : a.specs) plan(spec, a, all);
  std::map<std::string, int> seen;
  for (Planned& p : all) {
    if (const int n = ++seen[p.name]; n > 1) p.name += fmt::format(" {}", n);
  }
  return all;
}

void list_schedules(bool json) {
  Json out;
  for (const std::string& kind : optim::schedule_kinds()) {
    const std::string text = optim::json_of(optim::complete_spec({kind, {}}));
    if (!json) {
      print_line(text);
      continue;
    }
    out.push_back(Json::parse(text));
  }
  if (json) print_json(out);
}

void print_schedules(const ScheduleArguments& a) {
  Json out;
  for (const Planned& p : planned(a)) {
    const std::int64_t every = a.every > 0 ? a.every : std::max<std::int64_t>(1, p.total / 20);
    const bool momentum = p.schedule.momentum(0).has_value();
    Json rows = Json::array();
    if (!a.json) {
      print_line(fmt::format("{}: {} steps, base learning rate {:g}", p.name, grouped(p.total), p.rate));
      print_line(fmt::format("{:>12}  {:>14}  {:>14}{}", "step", "factor", "learning rate",
                             momentum ? fmt::format("  {:>10}", "momentum") : ""));
    }
    for (std::int64_t t = 0; t < p.total; t = t + every < p.total || t == p.total - 1 ? t + every : p.total - 1) {
      const double f = p.schedule.factor(t);
      const auto m = p.schedule.momentum(t);
      Json row{{"step", t}, {"factor", f}, {"learning_rate", f * p.rate}};
      if (m) row["momentum"] = *m;
      rows.push_back(row);
      if (!a.json)
        print_line(fmt::format("{:>12}  {:>14.7g}  {:>14.7g}{}", grouped(t), f, f * p.rate,
                               m ? fmt::format("  {:>10.5g}", *m) : ""));
    }
    out.push_back({{"name", p.name}, {"total", p.total}, {"rows", rows}});
  }
  if (a.json) print_json(out);
}

void plot_schedules(const ScheduleArguments& a) {
  const std::vector<Planned> all = planned(a);
  std::vector<train::ChartLine> lines;
  bool rates = false;
  std::int64_t longest = 0;
  for (const Planned& p : all) {
    rates = rates || p.rate != 1;
    longest = std::max(longest, p.total);
    train::ChartLine line{.name = p.name, .points = {}, .markers = false};
    // Every step, or so many that none is narrower than half a pixel.
    const std::int64_t every = std::max<std::int64_t>(1, p.total / 1500);
    for (std::int64_t t = 0; t < p.total; t = t + every < p.total || t == p.total - 1 ? t + every : p.total - 1) {
      const auto m = p.schedule.momentum(t);
      if (a.momentum && !m) fail("schedule plot", "schedules with a momentum", fmt::format("none in {}", p.name));
      const double y = a.momentum ? *m : p.schedule.factor(t) * p.rate;
      line.points.push_back({.x = double(t), .y = y, .low = y, .high = y});
    }
    lines.push_back(std::move(line));
  }
  const std::string what = a.momentum ? "momentum" : rates ? "learning rate" : "factor of the learning rate";
  train::ChartOptions options{
      .title = fmt::format("{} over {} steps", what, grouped(longest)), .x_label = "step", .y_label = what};
  if (!a.momentum) options.rules_y = {{0, ""}};
  io::write_file(a.out, train::chart_svg(options, lines));
  print_line(a.out);
}

}  // namespace

void add_schedule(CLI::App& program) {
  auto a = std::make_shared<ScheduleArguments>();
  CLI::App* command = program.add_subcommand("schedule", "Show what a learning-rate schedule does.");
  command->require_subcommand(1);
  command->footer("Example:\n  attune schedule plot cosine,warmup=0.05,total=2000 wsd,total=2000 --out schedules.svg");
  CLI::App* list = command->add_subcommand("list", "Every schedule with its fields and their defaults.");
  CLI::App* print = command->add_subcommand("print", "Step, factor and learning rate as a table.");
  CLI::App* plot = command->add_subcommand("plot", "A picture (SVG) of one or more schedules.");
  for (CLI::App* with_spec : {print, plot}) {
    with_spec->add_option("SPEC", a->specs, "recipe.toml, JSON or a .json file, or kind,field=value,...")->required();
    with_spec->add_option("--total", a->total, "steps, instead of what SPEC says")->check(CLI::PositiveNumber);
    with_spec->add_option("--rate", a->rate, "base learning rate; a recipe has its own")->check(CLI::PositiveNumber);
    with_spec->add_option("--epoch", a->steps_per_epoch, "steps of an epoch, for lengths in epochs")
        ->check(CLI::PositiveNumber);
    with_spec->add_option("--tokens", a->tokens_per_step, "tokens of a step, for lengths in tokens")
        ->check(CLI::PositiveNumber);
  }
  print->add_option("--every", a->every, "steps between rows; a twentieth of all unless given")
      ->check(CLI::PositiveNumber);
  plot->add_option("--out", a->out, "the picture; schedule.svg unless given");
  plot->add_flag("--momentum", a->momentum, "the momentum that the schedule sets, instead of the rate");
  for (CLI::App* with_json : {list, print}) with_json->add_flag("--json", a->json, "print JSON");
  list->footer("Example:\n  attune schedule list");
  print->footer("Example:\n  attune schedule print linear,warmup=100,total=2000 --rate 3e-4");
  plot->footer("Example:\n  attune schedule plot recipes/translate_en_de.toml --total 4000 --out plan.svg");
  list->callback([a] { list_schedules(a->json); });
  print->callback([a] { print_schedules(*a); });
  plot->callback([a] { plot_schedules(*a); });
}

}  // namespace attune::cli

// From a run's configuration, its model's structure and its log to the factors of a learning rate.
#include "attune/train/explain_rate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/nn/attention_sites.hpp"
#include "attune/nn/roles.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/gpt_learner.hpp"
#include "attune/train/recall_task.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/run_log_reader.hpp"
#include "attune/train/translate_task.hpp"

namespace attune::train {
namespace {

/// The model of a run, untrained: names, shapes and roles are what is asked for, and need no data.
std::shared_ptr<nn::Module> model_of_run(const RunConfig& config, const RunFacts& facts) {
  const std::int64_t vocab_size = facts.task.count("vocab_size");
  if (config.task == "translate")
    return std::make_shared<models::Seq2SeqTransformer>(model_options(config, vocab_size));
  if (config.task != "recall") return make_gpt(config, vocab_size, config.model.context);
  const RecallOptions recall{.pairs = config.data.pairs, .keys = config.data.keys, .questions = config.data.questions};
  return make_gpt(config, recall.vocab_size(), recall.length());
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

bool overlap(const nn::TensorRows& rows, const ParameterRows& asked) {
  return rows.tensor.defined() && rows.tensor.is(asked.tensor) && rows.first < asked.end && asked.first < rows.end;
}

bool has_rows(const nn::HeadProjection& side, const ParameterRows& asked) {
  return overlap(side.weight, asked) || overlap(side.bias, asked) || overlap(side.gain, asked);
}

/// The guard's factor of some rows: the smallest among the query heads that read them.
double guard_factor(const std::vector<nn::AttentionSite>& sites, const RunHistory& history, std::int64_t step,
                    const ParameterRows& asked) {
  double factor = 1;
  for (const nn::AttentionSite& site : sites) {
    const HeadsLine* line = nullptr;
    const std::vector<HeadsLine> lines = heads_of(history, site.name);
    for (const HeadsLine& l : lines) {
      if (l.step <= step) line = &l;
    }
    if (!line) continue;
    for (std::int64_t h = 0; h < std::min(site.num_heads(), std::int64_t(line->factor.size())); ++h) {
      const bool read =
          has_rows(site.queries[std::size_t(h)], asked) || has_rows(site.keys[std::size_t(h / site.group())], asked);
      if (read) factor = std::min(factor, line->factor[std::size_t(h)]);
    }
  }
  return factor;
}

}  // namespace

std::string rate_name(std::string_view name) {
  std::vector<std::string> parts;
  bool short_form = false;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    std::string part(name.substr(at, dot - at));
    at = dot + 1;
    if (part.size() > 1 && part[0] == 'L' && all_digits(std::string_view(part).substr(1))) {
      part = "layer" + part.substr(1);
    } else if (all_digits(part) && !parts.empty() && parts.back() == "layers") {
      parts.back() = "layer" + part;
      continue;
    } else if (part == "Wq" || part == "Wk" || part == "Wv" || part == "Wo") {
      short_form = true;
      if (parts.empty() || !parts.back().ends_with("attention")) parts.emplace_back("attention");
      part = part == "Wq" ? "query" : part == "Wk" ? "key" : part == "Wv" ? "value" : "output";
    } else if (short_form && part.size() > 1 && part[0] == 'h' && all_digits(std::string_view(part).substr(1))) {
      part = "head" + part.substr(1);
    }
    parts.push_back(std::move(part));
  }
  return fmt::format("{}", fmt::join(parts, "."));
}

RateExplanation explain_rate(const std::filesystem::path& run, std::string_view parameter, std::int64_t step) {
  const RunFiles files(run);
  const RunFacts facts = read_facts(files);
  const RunConfig config = read_run_config(files.config);
  const RunHistory history = read_run_log(files.log);
  RateExplanation out{.step = step > 0 ? step : history.last_step(),
                      .logged_rate = std::numeric_limits<double>::quiet_NaN()};
  if (out.step < 1 || out.step > config.train.steps)
    fail("explain_rate", fmt::format("a step of 1 to {}", config.train.steps), fmt::format("got {}", out.step));

  const std::shared_ptr<nn::Module> model = model_of_run(config, facts);
  const std::vector<ParameterRows> asked = nn::rows_named(nn::parameter_roles(*model), rate_name(parameter));
  const std::vector<nn::AttentionSite> sites = nn::attention_sites(*model);
  const std::unique_ptr<optim::Optimizer> optimizer = make_optimizer(config, *model);
  optimizer->set_schedule(make_schedule(config));
  optim::OptimizerState state = optimizer->state();
  state.step = out.step - 1;  // the first update is made at step 0

  double rollback = 1, plateau = 1;
  for (const StepLine& line : standing(history.steps)) {
    if (line.step > out.step) break;
    out.line_step = line.step;
    out.logged_rate = line.learning_rate;
    rollback = std::isnan(line.rollback) ? 1 : line.rollback;
    plateau = std::isnan(line.plateau) ? 1 : line.plateau;
  }
  if (out.line_step != out.step) {
    out.notes.push_back(
        out.line_step == 0
            ? "no line of the log at or before that step: guard and rollback are not known"
            : fmt::format("guard and rollback are those of step {}, the last line of the log before", out.line_step));
  }
  optimizer->load_state(state);
  optimizer->set_rate_multiplier(rollback);
  if (config.guard.mode != "off" && config.guard.rule == "quack")
    out.notes.emplace_back("the rule \"quack\" cuts keys by a factor of their own, which the log does not have");

  for (const ParameterRows& rows : asked) {
    RateOfRows answer{
        .parameter = rows.parameter, .first = rows.first, .end = rows.end, .role = rows.role, .head = rows.head};
    answer.factors = optimizer->rate_of(optimizer->index_of(rows.tensor), rows.first, rows.end);
    for (optim::RateFactor& factor : answer.factors) {
      if (factor.name == "plateau") factor.value = plateau;
      if (factor.name == "guard") factor.value = guard_factor(sites, history, out.step, rows);
      if (factor.name != "distance") continue;  // Prodigy's own: a number of its state
      const bool known = has_checkpoint(files.checkpoint);
      const optim::OptimizerState saved = known ? load_checkpoint(files.checkpoint).optimizer : optim::OptimizerState{};
      const auto distance = saved.numbers.find("distance");
      factor.value = distance == saved.numbers.end() ? 1 : distance->second;
      if (&rows == &asked.front())
        out.notes.push_back(known ? fmt::format("distance is that of the checkpoint, step {}", saved.step)
                                  : "distance is not known: there is no checkpoint");
    }
    // Neighbours with equal factors are one answer.
    if (!out.rows.empty()) {
      RateOfRows& last = out.rows.back();
      if (last.parameter == answer.parameter && last.end == answer.first && last.role == answer.role &&
          last.factors == answer.factors) {
        last.end = answer.end;
        last.head = -1;
        continue;
      }
    }
    out.rows.push_back(std::move(answer));
  }
  return out;
}

std::string rate_text(const std::vector<optim::RateFactor>& factors, bool all) {
  std::string text;
  for (const optim::RateFactor& f : factors) {
    if (!all && f.value == 1 && f.name != "base" && f.name != "schedule") continue;
    text += fmt::format("{}{:.4g} {}", text.empty() ? "" : " x ", f.value, f.name);
  }
  return text + fmt::format(" = {:.4g}", optim::product_of(factors));
}

}  // namespace attune::train

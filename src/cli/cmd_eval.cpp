// attune eval RUN: the metric of the run's task. Translations: BLEU and chrF, beside copying the source and a
// translation memory. A language model: bits per character. Recall: the share of right answers.
#include <fmt/format.h>

#include <memory>

#include "attune/io/atomic_file.hpp"
#include "attune/train/evaluate.hpp"
#include "attune/train/language_task.hpp"
#include "attune/train/recall_task.hpp"
#include "attune/train/translate_task.hpp"
#include "cli/commands.hpp"
#include "cli/scores.hpp"
#include "cli/search_arguments.hpp"

namespace attune::cli {
namespace {

struct EvalArguments {
  std::string run, on = "test", output;
  SearchArguments search;
  bool json = false;
};

/// The report with the one number that tells how good the model is, by its name.
Json scored(Json report, std::string_view name, double score, bool more_is_better) {
  report.update(Json{{"score_name", name}, {"score", score}, {"more_is_better", more_is_better}});
  return report;
}

void eval_translations(const EvalArguments& arguments) {
  const train::Translator translator = train::load_translator(arguments.run);
  const train::ParallelText text = train::load_text(arguments.run);
  const std::vector<train::SentencePair>& pairs = arguments.on == "test"    ? text.test
                                                  : arguments.on == "valid" ? text.valid
                                                                            : text.train;
  const train::Evaluation result =
      train::evaluate(translator, pairs, text.train, train::run_bleu_tokens(arguments.run), arguments.search.options());
  if (!arguments.output.empty()) {
    std::string lines;
    for (const std::string& translation : result.translations) lines += translation + "\n";
    io::write_file(arguments.output, lines);
  }
  if (arguments.json)
    return print_json(scored({{"on", arguments.on},
                              {"sentences", result.sentences},
                              {"beam", arguments.search.beam},
                              {"bleu", result.model.bleu},
                              {"chrf", result.model.chrf},
                              {"copy_bleu", result.copy.bleu},
                              {"copy_chrf", result.copy.chrf},
                              {"memory_bleu", result.memory.bleu},
                              {"memory_chrf", result.memory.chrf},
                              {"seconds", result.seconds}},
                             "BLEU", result.model.bleu, true));
  print_scores(result, arguments.on);
}

void eval_language_model(const EvalArguments& arguments) {
  const train::LanguageModel model = train::load_language_model(arguments.run);
  const train::SplitText text = train::load_language_text(arguments.run);
  const train::LanguageScore score = train::score_text(model, arguments.on == "test"    ? text.test
                                                              : arguments.on == "valid" ? text.valid
                                                                                        : text.train);
  if (arguments.json)
    return print_json(scored({{"on", arguments.on},
                              {"characters", score.characters},
                              {"unknown", score.unknown},
                              {"bits_per_character", score.bits_per_character},
                              {"seconds", score.seconds}},
                             "bits per character", score.bits_per_character, false));
  print_line(fmt::format("{:.4f} bits per character ({}, {} characters)", score.bits_per_character, arguments.on,
                         grouped(score.characters)));
}

void eval_recall(const EvalArguments& arguments) {
  const train::RecallScore score = train::score_recall(arguments.run);
  if (arguments.json)
    return print_json(scored({{"questions", score.questions}, {"accuracy", score.accuracy}, {"loss", score.loss}},
                             "accuracy", score.accuracy, true));
  print_line(fmt::format("{:.1f} % of {} questions, {:.4f} nats a question", 100 * score.accuracy,
                         grouped(score.questions), score.loss));
}

void eval(const EvalArguments& arguments) {
  const std::string task = train::read_run_config(train::RunFiles(arguments.run).config).task;
  if (task == "language-model") return eval_language_model(arguments);
  if (task == "recall") return eval_recall(arguments);
  eval_translations(arguments);
}

}  // namespace

void add_eval(CLI::App& program) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command =
      program.add_subcommand("eval", "Score a run: BLEU and chrF, bits per character, or right answers.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("--on", arguments->on, "which part of the data (recall makes its own)")
      ->check(CLI::IsMember({"test", "valid", "train"}))
      ->capture_default_str();
  command->add_option("--output", arguments->output, "write the translations to this file, a line each");
  arguments->search.add_to(*command);
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer("Example:\n  attune eval out/demo --on test");
  command->callback([arguments] { eval(*arguments); });
}

}  // namespace attune::cli

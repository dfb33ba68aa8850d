// attune eval RUN: BLEU and chrF of a run's translations, beside copying the source and a translation memory.
#include <memory>

#include "attune/io/atomic_file.hpp"
#include "attune/train/evaluate.hpp"
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

void eval(const EvalArguments& arguments) {
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
    return print_json({{"on", arguments.on},
                       {"sentences", result.sentences},
                       {"beam", arguments.search.beam},
                       {"bleu", result.model.bleu},
                       {"chrf", result.model.chrf},
                       {"copy_bleu", result.copy.bleu},
                       {"copy_chrf", result.copy.chrf},
                       {"memory_bleu", result.memory.bleu},
                       {"memory_chrf", result.memory.chrf},
                       {"seconds", result.seconds}});
  print_scores(result, arguments.on);
}

}  // namespace

void add_eval(CLI::App& program) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = program.add_subcommand("eval", "Score a run's translations, beside two baselines.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("--on", arguments->on, "which part of the data")
      ->check(CLI::IsMember({"test", "valid", "train"}))
      ->capture_default_str();
  command->add_option("--output", arguments->output, "write the translations to this file, a line each");
  arguments->search.add_to(*command);
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer("Example:\n  attune eval out/demo --on test");
  command->callback([arguments] { eval(*arguments); });
}

}  // namespace attune::cli

// attune demo: everything at once. Fetches real text, trains a translator from nothing, scores it, shows what it says
// and what it looks at. `./dev demo` builds the program and calls this.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/attention_page.hpp"
#include "attune/train/evaluate.hpp"
#include "attune/train/task.hpp"
#include "attune/train/translate_task.hpp"
#include "cli/scores.hpp"
#include "cli/training.hpp"

namespace attune::cli {
namespace {

namespace fs = std::filesystem;

struct DemoArguments {
  std::string recipe = "recipes/translate_en_de.toml", out = "out/demo", data_folder = "data";
  double minutes = 0;
  bool fresh = false;
};

/// Takes the files of a run away, and nothing else that may lie in the folder.
void remove_run(const fs::path& run) {
  const train::RunFiles files(run);
  for (const fs::path& path : {files.config, files.checkpoint, files.facts, files.tokenizer, files.log,
                               run / "result.json", run / "attention.html"})
    fs::remove_all(path);
}

/// Whether there is a run to go on with. One for another time is an error: to throw it away is for its owner to say.
bool has_run(const DemoArguments& arguments) {
  const train::RunFiles files(arguments.out);
  if (!fs::exists(files.config)) return false;
  if (arguments.minutes > 0) {
    const double planned = fs::exists(files.facts) ? train::read_facts(files).planned_minutes
                                                   : train::read_run_config(files.config).train.minutes;
    if (std::abs(planned - arguments.minutes) > 1e-9)
      fail("demo", fmt::format("--minutes {}, as the run in {} has (--fresh starts anew)", planned, arguments.out),
           fmt::format("{}", arguments.minutes));
  }
  return true;
}

/// Ten translations from all over the test set.
void show_translations(const std::vector<train::SentencePair>& pairs, const std::vector<std::string>& translations) {
  const std::size_t shown = std::min<std::size_t>(10, pairs.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const std::size_t at = (2 * i + 1) * pairs.size() / (2 * shown);
    print_line(fmt::format("\n  source     {}\n  reference  {}\n  attune     {}", pairs[at].source, pairs[at].target,
                           translations[at]));
  }
}

/// A sentence that fits on a screen: the first of the test set with 6 to 12 words, else the first.
const std::string& sentence_to_show(const std::vector<train::SentencePair>& pairs) {
  for (const train::SentencePair& pair : pairs) {
    const auto spaces = std::count(pair.source.begin(), pair.source.end(), ' ');
    if (spaces >= 5 && spaces < 12) return pair.source;
  }
  return pairs.front().source;
}

void demo(const DemoArguments& arguments) {
  train::RunConfig config = train::read_config(arguments.recipe);
  if (arguments.minutes > 0) config.train.minutes = arguments.minutes, config.train.steps = 0;
  if (arguments.fresh) remove_run(arguments.out);
  const bool resume = has_run(arguments);
  if (resume) fmt::print(stderr, "going on with the run in {} (--fresh starts anew)\n", arguments.out);
  const train::RunResult run = train_here(config, arguments.out, arguments.data_folder, resume, "the same command");

  fmt::print(stderr, "translating the test set\n");
  const train::Translator translator = train::load_translator(arguments.out);
  const train::ParallelText text = train::load_text(arguments.out);
  const train::Evaluation scores =
      train::evaluate(translator, text.test, text.train, train::run_bleu_tokens(arguments.out));

  const fs::path page_file = fs::path(arguments.out) / "attention.html",
                 result_file = fs::path(arguments.out) / "result.json";
  train::AttentionPage page = translator.open_up(sentence_to_show(text.test));
  page.facts = train::facts_of(arguments.out);
  page.facts.emplace_back("scores", fmt::format("BLEU {:.1f}, chrF {:.1f} on {} test sentences", scores.model.bleu,
                                                scores.model.chrf, scores.sentences));
  train::write_attention_page(page_file, page);
  const Json result = {{"bleu", scores.model.bleu},
                       {"chrf", scores.model.chrf},
                       {"copy_bleu", scores.copy.bleu},
                       {"memory_bleu", scores.memory.bleu},
                       {"minutes", run.minutes},
                       {"steps", run.step},
                       {"tokens_per_second", run.tokens_per_second},
                       {"parameters", run.parameters}};
  io::write_file(result_file, result.dump(2) + "\n");

  print_line("Ten translations of the test set:");
  show_translations(text.test, scores.translations);
  print_line("");
  print_scores(scores, "test");
  print_line(fmt::format("\n{} steps in {:.1f} minutes, {} tokens/s, {} parameters; the test set took {:.1f} s",
                         grouped(run.step), run.minutes, grouped(std::llround(run.tokens_per_second)),
                         grouped(run.parameters), scores.seconds));
  if (scores.model.bleu <= scores.memory.bleu) print_line("The translation memory is still better: more minutes help.");
  print_line(fmt::format("scores:    {}\nattention: {} (open it in a browser)", result_file.string(),
                         fs::absolute(page_file).lexically_normal().string()));
}

}  // namespace

void add_demo(CLI::App& program) {
  auto arguments = std::make_shared<DemoArguments>();
  CLI::App* command =
      program.add_subcommand("demo", "Fetch text, train a translator, score it and open its attention up.");
  command->add_option("--minutes", arguments->minutes, "of training; the recipe's unless given")
      ->check(CLI::PositiveNumber);
  command->add_option("--recipe", arguments->recipe, "what is trained")->capture_default_str();
  command->add_option("--out", arguments->out, "folder of the run")->capture_default_str();
  command->add_option("--data", arguments->data_folder, "folder that data is fetched to")->capture_default_str();
  command->add_flag("--fresh", arguments->fresh, "throw the run in --out away and start anew");
  command->footer("Example:\n  attune demo --minutes 5 --out out/demo");
  command->callback([arguments] { demo(*arguments); });
}

}  // namespace attune::cli

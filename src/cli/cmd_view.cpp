// attune view RUN SENTENCE: translates a sentence and writes the attention of that translation as one HTML page.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "attune/train/attention_page.hpp"
#include "attune/train/task.hpp"
#include "attune/train/translate_task.hpp"
#include "cli/commands.hpp"
#include "cli/search_arguments.hpp"

namespace attune::cli {
namespace {

struct ViewArguments {
  std::string run, sentence, out;
  SearchArguments search;
  bool json = false;
};

void view(const ViewArguments& arguments) {
  const train::Translator translator = train::load_translator(arguments.run);
  const std::filesystem::path path = arguments.out.empty() ? std::filesystem::path(arguments.run) / "attention.html"
                                                           : std::filesystem::path(arguments.out);
  train::AttentionPage page = translator.open_up(arguments.sentence, arguments.search.options());
  page.facts = train::facts_of(arguments.run);
  train::write_attention_page(path, page);
  if (arguments.json)
    return print_json({{"page", path.string()},
                       {"source", page.source_text},
                       {"translation", page.target_text},
                       {"maps", page.maps.size()}});
  print_line(page.target_text);
  print_line(path.string());
}

}  // namespace

void add_view(CLI::App& program) {
  auto arguments = std::make_shared<ViewArguments>();
  CLI::App* command = program.add_subcommand("view", "Translate a sentence and open its attention up as an HTML page.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("SENTENCE", arguments->sentence, "what to translate")->required();
  command->add_option("--out", arguments->out, "the page; RUN/attention.html unless given");
  arguments->search.add_to(*command);
  command->add_flag("--json", arguments->json, "print the result as JSON");
  command->footer("Example:\n  attune view out/demo \"Save the file.\"");
  command->callback([arguments] { view(*arguments); });
}

}  // namespace attune::cli

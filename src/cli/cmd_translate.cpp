// attune translate RUN [SENTENCE...]: translates what is given, or standard input, line by line.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <memory>

#include "attune/train/translate_task.hpp"
#include "cli/commands.hpp"
#include "cli/search_arguments.hpp"

namespace attune::cli {
namespace {

struct TranslateArguments {
  std::string run;
  std::vector<std::string> sentences;
  SearchArguments search;
  bool json = false;
};

Json as_json(const std::string& source, const train::Translation& t) {
  return {{"source", source}, {"translation", t.text}, {"score", t.score}, {"finished", t.finished}};
}

/// A person at a terminal gets every answer at once; a file is translated many lines at a time, in its order.
void translate_input(const train::Translator& translator, const TranslateArguments& arguments) {
  const std::size_t at_once = isatty(STDIN_FILENO) ? 1 : 1024;
  std::vector<std::string> lines;
  const auto flush = [&] {
    const auto translations = translator.translate(lines, arguments.search.options());
    for (std::size_t i = 0; i < lines.size(); ++i)
      print_line(arguments.json ? as_json(lines[i], translations[i]).dump() : translations[i].text);
    std::fflush(stdout);
    lines.clear();
  };
  for (std::string line; std::getline(std::cin, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
    if (lines.size() == at_once) flush();
  }
  if (!lines.empty()) flush();
}

void translate(const TranslateArguments& arguments) {
  const train::Translator translator = train::load_translator(arguments.run);
  if (arguments.sentences.empty()) return translate_input(translator, arguments);
  const auto translations = translator.translate(arguments.sentences, arguments.search.options());
  for (std::size_t i = 0; i < translations.size(); ++i)
    print_line(arguments.json ? as_json(arguments.sentences[i], translations[i]).dump() : translations[i].text);
}

}  // namespace

void add_translate(CLI::App& program) {
  auto arguments = std::make_shared<TranslateArguments>();
  CLI::App* command = program.add_subcommand("translate", "Translate sentences, or standard input line by line.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_option("SENTENCE", arguments->sentences, "what to translate; none: standard input");
  arguments->search.add_to(*command);
  command->add_flag("--json", arguments->json, "print one JSON object a line");
  command->footer("Example:\n  attune translate out/demo \"Save the file.\"");
  command->callback([arguments] { translate(*arguments); });
}

}  // namespace attune::cli

// attune doctor RUN: what is wrong with a training run, from its log.
#include <filesystem>
#include <memory>

#include "attune/train/config.hpp"
#include "attune/train/doctor.hpp"
#include "attune/train/run_files.hpp"
#include "cli/commands.hpp"

namespace attune::cli {
namespace {

struct DoctorArguments {
  std::string run;
  bool json = false;
};

constexpr int kBadlyWrong = 3;

Json finding_json(const train::Finding& f) {
  Json places = Json::array();
  for (const train::HeadPlace& place : f.places) places.push_back({{"layer", place.layer}, {"head", place.head}});
  return {{"symptom", f.symptom}, {"bad", f.bad},           {"first_step", f.first_step}, {"last_step", f.last_step},
          {"places", places},     {"evidence", f.evidence}, {"cause", f.cause},           {"action", f.action}};
}

void doctor(const DoctorArguments& arguments) {
  const train::RunFiles files(arguments.run);
  train::DoctorOptions options;
  if (std::filesystem::exists(files.config)) {
    const train::GuardConfig guard = train::read_run_config(files.config).guard;
    options.limit = guard.limit;
    options.tau = guard.tau;
  }
  const train::Diagnosis diagnosis = train::diagnose(train::read_run_log(files.log), options);
  if (arguments.json) {
    Json findings = Json::array();
    for (const train::Finding& f : diagnosis.findings) findings.push_back(finding_json(f));
    print_json({{"healthy", diagnosis.findings.empty()},
                {"bad", diagnosis.bad()},
                {"lines", diagnosis.lines},
                {"first_step", diagnosis.first_step},
                {"last_step", diagnosis.last_step},
                {"looked_at", diagnosis.looked_at},
                {"not_logged", diagnosis.not_logged},
                {"findings", findings}});
  } else {
    print_line(train::diagnosis_text(diagnosis));
  }
  if (diagnosis.bad()) throw ExitCode{kBadlyWrong};
}

}  // namespace

void add_doctor(CLI::App& program) {
  auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* command = program.add_subcommand("doctor", "Say what is wrong with a training run, why, and what helps.");
  command->add_option("RUN", arguments->run, "folder of a run, such as out/demo")->required();
  command->add_flag("--json", arguments->json, "print JSON");
  command->footer("Example:\n  attune doctor out/demo\n\nExit code 3: something is badly wrong.");
  command->callback([arguments] { doctor(*arguments); });
}

}  // namespace attune::cli

// Checkpoints: arrays first, under names of their own; the rename of state.json makes them the checkpoint.
#include "attune/train/checkpoint.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "attune/base/cpu.hpp"
#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/io/safetensors.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kState = "state.json";
constexpr int kVersion = 1;

std::uint32_t crc_of(std::string_view bytes) {
  return std::uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

[[noreturn]] void damaged(const fs::path& file, std::string_view finding) {
  fail("load_checkpoint", fmt::format("a complete {}", file.string()), finding);
}

// JSON has no NaN and no infinity.
Json number_json(double x) { return std::isfinite(x) ? Json(x) : Json(fmt::format("{}", x)); }
double number_from(const Json& json) {
  if (json.is_number()) return json.get<double>();
  const std::string text = json.get<std::string>();
  if (text == "inf" || text == "-inf") return std::numeric_limits<double>::infinity() * (text[0] == '-' ? -1 : 1);
  return std::numeric_limits<double>::quiet_NaN();
}

using NamedArrays = std::vector<std::pair<std::string, Tensor>>;

/// Writes arrays to folder/name and says what a loader has to find there.
Json write_arrays(const fs::path& folder, const std::string& name, const NamedArrays& arrays) {
  std::vector<io::SafetensorsEntry> entries;
  for (const auto& [key, tensor] : arrays) {
    entries.push_back({key, io::stored_type(tensor.dtype()), tensor.shape(), tensor.raw()});
  }
  const fs::path path = folder / name;
  io::write_safetensors(path, std::move(entries));
  const std::string content = io::read_file(path);
  return {{"name", name}, {"bytes", content.size()}, {"crc32", crc_of(content)}};
}

NamedArrays read_arrays(const fs::path& folder, const Json& file) {
  const std::string name = file.at("name");
  if (name.empty() || name.find('/') != std::string::npos)
    damaged(folder / kState, "it names the file \"" + name + "\"");
  const fs::path path = folder / name;
  if (!fs::exists(path)) damaged(path, "it is missing");
  {
    const std::string content = io::read_file(path);
    const std::size_t bytes = file.at("bytes");
    if (content.size() != bytes) damaged(path, fmt::format("it has {} bytes instead of {}", content.size(), bytes));
    if (crc_of(content) != file.at("crc32").get<std::uint32_t>()) damaged(path, "its content has been altered");
  }
  const io::SafetensorsReader reader(path);
  NamedArrays arrays;
  for (const io::SafetensorsItem& item : reader.items()) {
    arrays.emplace_back(item.name, Tensor::empty(item.shape, io::dtype_of(item.type)));
    reader.read(item.name, arrays.back().second.raw());
  }
  return arrays;
}

/// The checked content of state.json.
Json read_state(const fs::path& folder) {
  const fs::path path = folder / kState;
  if (!fs::exists(path)) fail("load_checkpoint", fmt::format("a checkpoint in {}", folder.string()), "there is none");
  Json state = Json::parse(io::read_file(path), nullptr, false);
  if (!state.is_object() || !state.contains("checksum")) damaged(path, "it is cut off or no JSON");
  const Json checksum = state["checksum"];
  state.erase("checksum");
  if (checksum != Json(crc_of(state.dump()))) damaged(path, "its content has been altered");
  const Json version = state.value("version", Json());
  if (version != kVersion)
    damaged(path, fmt::format("it has version {}, this program reads {}", version.dump(), kVersion));
  return state;
}

/// f(), with what JSON finds wrong (a field missing or of another type) turned into one Error.
template <class F>
auto reading(const fs::path& folder, F&& f) {
  try {
    return f();
  } catch (const Json::exception& error) {
    damaged(folder / kState, error.what());
  }
}

/// The files that the checkpoint in place consists of; none if there is none that can be read.
std::set<std::string> files_in_place(const fs::path& folder) {
  try {
    const Json state = read_state(folder);
    std::set<std::string> names;
    for (const auto& file : state.at("files")) names.insert(file.at("name").get<std::string>());
    return names;
  } catch (const std::exception&) {
    return {};
  }
}

/// Removes arrays, finished or not, that state.json does not name.
void remove_others(const fs::path& folder, const std::set<std::string>& keep) {
  std::error_code ignored;  // what cannot be removed is in nobody's way
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with("weights-") || name.starts_with("optimizer-") || name.starts_with("guard-");
    if (ours && !keep.contains(name)) others.push_back(entry.path());
  }
  for (const fs::path& other : others) fs::remove(other, ignored);
}

}  // namespace

void save_checkpoint(const fs::path& folder, const Checkpoint& c) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("save_checkpoint", fmt::format("a folder {}", folder.string()), error.message());
  const std::set<std::string> in_place = files_in_place(folder);
  // A second checkpoint of the same step takes other names: the files in place are not touched.
  const auto free_name = [&](const char* what) {
    const std::string name = fmt::format("{}-{}.safetensors", what, c.step);
    return in_place.contains(name) ? fmt::format("{}-{}-again.safetensors", what, c.step) : name;
  };
  const std::string weights = free_name("weights"), optimizer = free_name("optimizer"), guard = free_name("guard");
  Json state;
  state["version"] = kVersion;
  state["step"] = c.step;
  state["data"] = {{"epoch", c.data.epoch}, {"batch", c.data.batch}};
  state["generators"] = Json::object();
  for (const auto& [name, g] : c.generators) {
    state["generators"][name] = {{"seed", g.seed}, {"stream", g.stream}, {"position", g.position}};
  }
  state["schedule"] = c.schedule;
  state["numerics"] = c.numerics;
  state["numbers"] = Json::object();
  for (const auto& [name, x] : c.numbers) state["numbers"][name] = number_json(x);
  state["logs"] = Json::object();
  for (const auto& [name, bytes] : c.logs) state["logs"][name] = bytes;
  state["guard"] = {{"numbers", Json::object()}, {"arrays", Json::array()}};
  for (const auto& [name, numbers] : c.guard.numbers) {
    Json& list = state["guard"]["numbers"][name] = Json::array();
    for (const double x : numbers) list.push_back(number_json(x));
  }
  for (const auto& array : c.guard.arrays) state["guard"]["arrays"].push_back(array.first);
  state["optimizer"] = {{"kind", c.optimizer.kind},
                        {"step", c.optimizer.step},
                        {"skipped", c.optimizer.skipped},
                        {"offsets", c.optimizer.offsets},
                        {"arrays", Json::array()}};
  for (const auto& array : c.optimizer.arrays) state["optimizer"]["arrays"].push_back(array.first);
  state["optimizer"]["numbers"] = Json::object();
  for (const auto& [name, x] : c.optimizer.numbers) state["optimizer"]["numbers"][name] = number_json(x);
  NamedArrays named;
  for (const nn::NamedTensor& w : c.weights) named.emplace_back(w.name, w.tensor);
  state["weights"] = Json::array();
  for (const nn::NamedTensor& w : c.weights) state["weights"].push_back(w.name);
  try {
    state["files"] = {{"weights", write_arrays(folder, weights, named)},
                      {"optimizer", write_arrays(folder, optimizer, c.optimizer.arrays)}};
    if (!c.guard.arrays.empty()) state["files"]["guard"] = write_arrays(folder, guard, c.guard.arrays);
    state["checksum"] = crc_of(state.dump());
    io::write_file(folder / kState, state.dump(1) + "\n");
  } catch (...) {
    remove_others(folder, files_in_place(folder));
    throw;
  }
  remove_others(folder, {weights, optimizer, guard});
}

bool has_checkpoint(const fs::path& folder) { return fs::exists(folder / kState); }

namespace {

/// In the order in which they were given, which safetensors does not keep.
NamedArrays in_order(NamedArrays arrays, const Json& names, const fs::path& file) {
  NamedArrays ordered;
  for (const Json& name : names) {
    const auto found =
        std::find_if(arrays.begin(), arrays.end(), [&](const auto& a) { return a.first == name.get<std::string>(); });
    if (found == arrays.end()) damaged(file, "it has no array " + name.dump());
    ordered.push_back(*found);
  }
  if (ordered.size() != arrays.size()) damaged(file, "it has arrays that state.json does not name");
  return ordered;
}

std::vector<nn::NamedTensor> weights_of(const fs::path& folder, const Json& state) {
  const Json& file = state.at("files").at("weights");
  std::vector<nn::NamedTensor> weights;
  for (auto& [name, tensor] :
       in_order(read_arrays(folder, file), state.at("weights"), folder / file.at("name").get<std::string>())) {
    weights.push_back({name, tensor});
  }
  return weights;
}

/// Empty where a run without a guard, or a program that knew none, wrote the checkpoint.
GuardState guard_of(const fs::path& folder, const Json& state) {
  GuardState guard;
  if (!state.contains("guard")) return guard;
  for (const auto& [name, numbers] : state.at("guard").at("numbers").items()) {
    for (const Json& x : numbers) guard.numbers[name].push_back(number_from(x));
    if (numbers.empty()) guard.numbers[name] = {};
  }
  if (!state.at("files").contains("guard")) return guard;
  const Json& file = state.at("files").at("guard");
  guard.arrays =
      in_order(read_arrays(folder, file), state.at("guard").at("arrays"), folder / file.at("name").get<std::string>());
  return guard;
}

}  // namespace

Checkpoint load_checkpoint(const fs::path& folder) {
  return reading(folder, [&] {
    const Json state = read_state(folder);
    Checkpoint c;
    c.step = state.at("step");
    c.data = {state.at("data").at("epoch"), state.at("data").at("batch")};
    for (const auto& [name, g] : state.at("generators").items()) {
      GeneratorState& to = c.generators[name];
      to.seed = g.at("seed");
      to.stream = g.at("stream");
      to.position = g.at("position");
    }
    c.schedule = state.at("schedule");
    c.numerics = state.at("numerics");
    for (const auto& [name, x] : state.at("numbers").items()) c.numbers[name] = number_from(x);
    const Json logs = state.value("logs", Json::object());  // older checkpoints have none
    for (const auto& [name, bytes] : logs.items()) c.logs[name] = bytes.get<std::int64_t>();
    c.guard = guard_of(folder, state);
    const Json& optimizer = state.at("optimizer");
    const Json& file = state.at("files").at("optimizer");
    c.optimizer.kind = optimizer.at("kind");
    c.optimizer.step = optimizer.at("step");
    c.optimizer.skipped = optimizer.at("skipped");
    c.optimizer.offsets = optimizer.at("offsets").get<std::vector<std::int64_t>>();
    const Json numbers = optimizer.value("numbers", Json::object());  // items() looks into it
    for (const auto& [name, x] : numbers.items()) {
      c.optimizer.numbers[name] = number_from(x);
    }
    c.optimizer.arrays =
        in_order(read_arrays(folder, file), optimizer.at("arrays"), folder / file.at("name").get<std::string>());
    c.weights = weights_of(folder, state);
    return c;
  });
}

std::vector<nn::NamedTensor> load_weights(const fs::path& folder) {
  return reading(folder, [&] { return weights_of(folder, read_state(folder)); });
}

void restore_weights(const std::vector<nn::NamedTensor>& weights, const nn::Module& module) {
  std::vector<nn::NamedTensor> parameters = module.named_parameters();
  std::vector<const Tensor*> sources;
  for (const nn::NamedTensor& p : parameters) {
    const auto found = std::find_if(weights.begin(), weights.end(), [&](const auto& w) { return w.name == p.name; });
    const std::string expectation = fmt::format("weights {} of shape {}", p.name, p.tensor.shape().text());
    if (found == weights.end()) fail("restore_weights", expectation, "there are none");
    if (found->tensor.shape() != p.tensor.shape() || found->tensor.dtype() != p.tensor.dtype()) {
      fail("restore_weights", expectation + " in " + std::string(name_of(p.tensor.dtype())),
           fmt::format("got {} in {}", found->tensor.shape().text(), name_of(found->tensor.dtype())));
    }
    sources.push_back(&found->tensor);
  }
  for (const nn::NamedTensor& w : weights) {
    const bool known =
        std::any_of(parameters.begin(), parameters.end(), [&](const auto& p) { return p.name == w.name; });
    if (!known) fail("restore_weights", "weights of this module alone", fmt::format("got {} as well", w.name));
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_from(*sources[i]);
}

std::string numerics_of_this_machine() {
  const CpuInfo& cpu = cpu_info();
  return fmt::format("{}, caches of {} and {} bytes", name_of(cpu_target()), cpu.l1d_bytes, cpu.l2_bytes);
}

}  // namespace attune::train

// A checkpoint: all that a run needs to go on as if it had never stopped, bit for bit.
//
//   <folder>/state.json                      step, generators, data cursor, schedule, and the two files' names and sums
//   <folder>/weights-<step>.safetensors      parameters by name
//   <folder>/optimizer-<step>.safetensors    moments, flat
//   <folder>/guard-<step>.safetensors        snapshots of the attention guard, if it has any
//
// The arrays are written first, under names of their own; then state.json is written beside and renamed. That rename is
// the moment at which the new checkpoint exists: before it state.json names the old files, which are still there, after
// it the new ones, which are complete. Old files are removed last. A kill at any moment leaves a loadable checkpoint.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "attune/nn/module.hpp"
#include "attune/optim/optimizer.hpp"
#include "attune/train/batches.hpp"
#include "attune/train/guard_event.hpp"

namespace attune::train {

/// Where a Generator stands.
struct GeneratorState {
  std::uint64_t seed = 0, stream = 0, position = 0;
  GeneratorState() = default;
  GeneratorState(const Generator& g) : seed(g.seed()), stream(g.stream()), position(g.position()) {}
  Generator generator() const {
    Generator g(seed, stream);
    g.set_position(position);
    return g;
  }
  friend bool operator==(const GeneratorState&, const GeneratorState&) = default;
};

struct Checkpoint {
  std::vector<nn::NamedTensor> weights;
  optim::OptimizerState optimizer;
  std::int64_t step = 0;                             // updates applied, the optimizer's
  BatchCursor data;                                  // the next batch
  std::map<std::string, GeneratorState> generators;  // {"dropout": ...}
  std::string schedule;                              // Schedule::json()
  std::string numerics;                              // numerics_of_this_machine() where it was written
  std::map<std::string, double> numbers;             // whatever else the loop carries (running loss, tokens seen)
  std::map<std::string, std::int64_t> logs;          // bytes of each log that the run had written: {"log.jsonl", 512}
  GuardState guard;                                  // of the attention guard; empty without one
};

/// Writes a checkpoint to a folder, which is created if need be, in place of the one that is there.
/// Throws Error, and leaves the old one loadable, if it cannot be written.
void save_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint);
/// Whether there is one. It may still be damaged.
bool has_checkpoint(const std::filesystem::path& folder);
/// Throws Error naming the file that is missing, truncated or altered.
Checkpoint load_checkpoint(const std::filesystem::path& folder);
/// The weights alone: what translating needs.
std::vector<nn::NamedTensor> load_weights(const std::filesystem::path& folder);

/// Copies weights by name into a module's parameters. Throws Error, and changes nothing, if one is missing, left over
/// or of another shape or dtype.
void restore_weights(const std::vector<nn::NamedTensor>& weights, const nn::Module& module);

/// What equal bits depend on beside the program: the instruction set and the caches that tiles are cut for.
/// Two runs on machines with equal texts are equal bit for bit.
std::string numerics_of_this_machine();

}  // namespace attune::train

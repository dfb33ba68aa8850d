// Parameters by name, to and from safetensors: all are read and checked before the first is replaced.
#include "attune/nn/state.hpp"

#include <algorithm>
#include <string>

#include "attune/base/error.hpp"
#include "attune/io/safetensors.hpp"

namespace attune::nn {

void save_parameters(const Module& module, const std::filesystem::path& path) {
  std::vector<io::SafetensorsEntry> entries;
  const std::vector<NamedTensor> parameters = module.named_parameters();
  for (const NamedTensor& p : parameters) {
    entries.push_back({p.name, io::stored_type(p.tensor.dtype()), p.tensor.shape(), p.tensor.raw()});
  }
  io::write_safetensors(path, std::move(entries));
}

void load_parameters(Module& module, const std::filesystem::path& path) {
  const io::SafetensorsReader reader(path);
  std::vector<NamedTensor> parameters = module.named_parameters();
  for (const auto& item : reader.items()) {
    if (std::none_of(parameters.begin(), parameters.end(), [&](const auto& p) { return p.name == item.name; })) {
      fail("load_parameters", "a file with this module's parameters alone",
           path.string() + " has \"" + item.name + "\" as well");
    }
  }
  std::vector<Tensor> read;  // all before the first is replaced
  for (const NamedTensor& p : parameters) {
    read.push_back(Tensor::empty(p.tensor.shape(), p.tensor.dtype()));
    reader.read(p.name, p.tensor.shape(), p.tensor.dtype(), read.back().raw());
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_from(read[i]);
}

}  // namespace attune::nn

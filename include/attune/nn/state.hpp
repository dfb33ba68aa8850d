// Parameters of a module to and from a safetensors file, by name.
#pragma once
#include <filesystem>

#include "attune/nn/module.hpp"

namespace attune::nn {

/// Writes all named parameters, beside and renamed.
void save_parameters(const Module&, const std::filesystem::path&);
/// Reads all named parameters, converting between floating types. Throws Error if one is missing, has another shape, or
/// if the file holds a name that the module lacks; the module is then unchanged.
void load_parameters(Module&, const std::filesystem::path&);

}  // namespace attune::nn

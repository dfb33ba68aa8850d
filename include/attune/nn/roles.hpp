// What each row of a model's parameters is for: what learning rates, controllers and reports ask.
//
//     optimizer.set_row_factors(optim::row_factors(nn::parameter_roles(model), {.roles = {{Role::query, 0.5}}}));
//
// Roles (autograd/roles.hpp lists them) are what the modules say, Module::own_roles(); what nobody speaks of is `head`
// after all blocks and `other` before. Depths follow from the order: members that are
// called layer<number> are blocks, counted from 1 over the whole model (an encoder's, then a decoder's); embeddings and
// positions have depth 0, what stands after a stack belongs to its last block, what stands after all blocks has L + 1.
#pragma once
#include <string_view>
#include <vector>

#include "attune/autograd/roles.hpp"
#include "attune/nn/module.hpp"

namespace attune::nn {

/// All rows of all parameters, in the order of named_parameters(); a shared tensor appears once. Rows of query, key
/// and value heads come one head after the other.
std::vector<ParameterRows> parameter_roles(Module& model);

/// Those rows that a name means: of a parameter ("encoder.layer0.attention.weight_in"), of a role in a module
/// ("encoder.layer0.attention.query") or of one head ("encoder.layer0.attention.query.head1"); a leading part of the
/// name may be left out while that leaves one module ("layer0.attention.query" of a model with one stack). Throws
/// Error, naming the nearest, if nothing is called that.
std::vector<ParameterRows> rows_named(const std::vector<ParameterRows>& rows, std::string_view name);

}  // namespace attune::nn

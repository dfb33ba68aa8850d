// What modules that are composed of operators share: checks of widths and inputs, and rows that are padding. Private.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/autograd/tensor.hpp"
#include "attune/nn/init.hpp"

namespace attune::nn::detail {

/// Throws Error, with all names and values, unless each is at least 1.
void check_positive(std::string_view function,
                    std::initializer_list<std::pair<std::string_view, std::int64_t>> extents);
/// Throws Error unless x is [B, T, width].
void check_tokens(std::string_view function, std::string_view what, const Tensor& x, std::int64_t width);
/// Throws Error unless valid is empty or holds a number in 0 .. tokens for each batch entry.
void check_valid(std::string_view function, const std::vector<int>& valid, std::int64_t batch, std::int64_t tokens);
/// 0 becomes num_heads. Throws Error unless num_heads is a multiple.
void fill_kv_heads(std::string_view function, std::int64_t num_heads, std::int64_t& num_kv_heads);
/// 0 becomes width / parts. Throws Error unless parts divide the width.
void fill_head_dim(std::string_view function, std::int64_t width, std::int64_t parts, std::int64_t& head_dim);
/// Throws Error if a stage has learned arrays, which the module would not own.
void check_no_parameters(std::string_view function, const AttendOptions&, std::int64_t num_heads,
                         std::int64_t num_kv_heads, std::int64_t head_dim);
/// Matrices [rows, in] one below the other, each an own one to the initialiser.
Tensor stacked_parameter(std::initializer_list<std::int64_t> rows, std::int64_t in, const Initializer&);

/// x [B, T, ...] with zeros in the rows from valid[b] on, by selection; x itself if valid is empty.
Tensor without_padding(const Tensor& x, const std::vector<int>& valid);
/// x [n, C] once for each batch entry: [batch, n, C].
Tensor for_each_entry(const Tensor& x, std::int64_t batch);

}  // namespace attune::nn::detail

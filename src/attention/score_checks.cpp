// What scores check when a call is made, and the parts of them that need no template.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string>

#include "attune/attention/score/all.hpp"
#include "attune/base/error.hpp"
#include "kernels/lanes.hpp"

namespace attune {

namespace {
void widths_agree(const char* score, const AttendShape& s) {
  if (s.query_dim != s.key_dim) {
    fail(score, "query and key of one width", fmt::format("got {} and {}", s.query_dim, s.key_dim));
  }
}
void at_least_one(const char* score, const char* option, int value) {
  if (value < 1) fail(score, fmt::format("{} of 1 or more", option), fmt::format("got {}", value));
}
void is_positive(const char* score, const char* option, double value) {
  if (!(value > 0) || !std::isfinite(value))
    fail(score, fmt::format("{} above 0", option), fmt::format("got {}", value));
}
void is_finite_number(const char* score, const char* option, double value) {
  if (!std::isfinite(value)) fail(score, fmt::format("a finite {}", option), fmt::format("got {}", value));
}
}  // namespace

void Dot::check(const AttendShape& s) const { widths_agree("dot", s); }
void Bilinear::check(const AttendShape& s) const {
  const int wide = key_dim ? key_dim : s.query_dim;
  if (wide != s.key_dim) {
    fail("bilinear", fmt::format("keys of width {} (option key_dim)", wide), fmt::format("got {}", s.key_dim));
  }
}
void Concat::check(const AttendShape&) const { at_least_one("concat", "hidden_dim", hidden_dim); }
void CosineScore::check(const AttendShape& s) const { widths_agree("cosine", s); }
void NormalizedDot::check(const AttendShape& s) const {
  widths_agree("qk_norm", s);
  is_positive("qk_norm", "epsilon", epsilon);
  if (scale) is_finite_number("qk_norm", "scale", *scale);
}
void SquaredDistance::check(const AttendShape& s) const {
  widths_agree("squared_distance", s);
  is_finite_number("squared_distance", "scale", scale);
}
void GaussianKernel::check(const AttendShape& s) const { widths_agree("gaussian", s); }
void LocationBased::check(const AttendShape& s) const {
  if (num_positions < s.num_keys) {
    fail("location", fmt::format("num_positions for all {} keys", s.num_keys), fmt::format("got {}", num_positions));
  }
}
void LocalP::check(const AttendShape& s) const {
  widths_agree("local_p", s);
  at_least_one("local_p", "hidden_dim", hidden_dim);
  is_positive("local_p", "half_width", half_width);
  if (scale) is_finite_number("local_p", "scale", *scale);
}
void Shaw::check(const AttendShape& s) const {
  widths_agree("shaw", s);
  if (max_distance < 0) fail("shaw", "max_distance of 0 or more", fmt::format("got {}", max_distance));
  if (scale) is_finite_number("shaw", "scale", *scale);
}
void TransformerXl::check(const AttendShape& s) const {
  widths_agree("transformer_xl", s);
  const int wide = sinusoid_dim ? sinusoid_dim : s.key_dim;
  if (wide < 2 || wide % 2 != 0) {
    fail("transformer_xl", "an even sinusoid_dim of 2 or more", fmt::format("got {}", wide));
  }
  is_positive("transformer_xl", "base", base);
}
void Deberta::check(const AttendShape& s) const {
  widths_agree("deberta", s);
  at_least_one("deberta", "max_distance", max_distance);
}

void MlpScore::check(const AttendShape&) const {
  if (hidden.empty()) fail("mlp", "hidden, the widths of one or more layers", "got none");
  for (const int width : hidden) at_least_one("mlp", "hidden widths", width);
}
std::vector<ParameterSpec> MlpScore::parameters(const AttendShape& shape) const {
  if (hidden.empty()) return {};
  std::vector<ParameterSpec> all = {{"query_weight", {hidden[0], shape.query_dim}, Per::head},
                                    {"key_weight", {hidden[0], shape.key_dim}, Per::kv_head},
                                    {"bias_1", {hidden[0]}, Per::head, Start::at(0)}};
  for (std::size_t l = 1; l < hidden.size(); ++l) {
    all.push_back({fmt::format("weight_{}", l + 1), {hidden[l], hidden[l - 1]}, Per::head});
    all.push_back({fmt::format("bias_{}", l + 1), {hidden[l]}, Per::head, Start::at(0)});
  }
  all.push_back({"v", {hidden.back()}, Per::head});
  return all;
}

#define ATTUNE_TRANSPOSE_WEIGHT(T)                                                                       \
  void detail::transpose_weight(const T* weight, int rows, int cols, std::ptrdiff_t stride, T* turned) { \
    kernels::transpose(weight, stride, rows, cols, turned, rows, T(1));                                  \
  }
ATTUNE_TRANSPOSE_WEIGHT(float)
ATTUNE_TRANSPOSE_WEIGHT(double)
#undef ATTUNE_TRANSPOSE_WEIGHT

detail::Turning::Turning(double base, int wide, int first) : position_(first) {
  const std::size_t half = std::size_t(wide) / 2;
  for (auto* v : {&frequency_, &sine_, &cosine_, &turn_sine_, &turn_cosine_}) v->resize(half);
  for (std::size_t k = 0; k < half; ++k) {
    frequency_[k] = std::pow(base, -2.0 * double(k) / wide);
    turn_cosine_[k] = std::cos(frequency_[k]);
    turn_sine_[k] = std::sin(frequency_[k]);
  }
}
void detail::Turning::next() {
  constexpr int kRestart = 32;
  const bool exact = turns_ % kRestart == 0;
  double *sine = sine_.data(), *cosine = cosine_.data();
  for (std::size_t k = 0; k < frequency_.size(); ++k) {
    if (exact) {
      cosine[k] = std::cos((position_ + turns_) * frequency_[k]);
      sine[k] = std::sin((position_ + turns_) * frequency_[k]);
    } else {
      const double c = cosine[k] * turn_cosine_[k] - sine[k] * turn_sine_[k];
      sine[k] = sine[k] * turn_cosine_[k] + cosine[k] * turn_sine_[k];
      cosine[k] = c;
    }
  }
  ++turns_;
}

std::span<const std::string_view> option_names(ScoreActivation) {
  static constexpr std::array<std::string_view, 3> names = {"tanh", "relu", "gelu"};
  return names;
}
std::span<const std::string_view> option_names(RowNorm) {
  static constexpr std::array<std::string_view, 2> names = {"rms", "l2"};
  return names;
}

}  // namespace attune

// What linear attention does to queries and keys before it multiplies them: phi, a map of rows to rows with
// phi(q) . phi(k) in place of exp(q . k).
//
//     Identity     phi(x) = x
//     EluPlusOne   phi(x) = x + 1 where x > 0, else e^x                  "Transformers are RNNs", arXiv:2006.16236
//     Relu         phi(x) = max(x, 0) + epsilon                          "Rethinking attention with Performers",
//     section 4 Favor        phi(x) = e^(w . x' - |x'|^2 / 2) / sqrt(F)            FAVOR+, "Rethinking attention with
//     Performers",
//                  for F random rows w, x' = x sqrt(scale)               arXiv:2009.14794
//
// The expectation of Favor's phi(q) . phi(k) over its random rows is e^(scale q . k), the weight of softmax attention.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

namespace attune::features {

struct Identity {
  static constexpr std::string_view name = "identity";
  static constexpr std::string_view source = "none: queries and keys as they are";
};

/// x + 1 above 0, e^x below: positive and smooth.
struct EluPlusOne {
  static constexpr std::string_view name = "elu_plus_one";
  static constexpr std::string_view source = "Transformers are RNNs, arXiv:2006.16236";
};

/// max(x, 0) + epsilon; the slope at 0 is 0. epsilon >= 0 keeps the normalizer of a row away from 0.
struct Relu {
  static constexpr std::string_view name = "relu";
  static constexpr std::string_view source = "Rethinking attention with Performers, arXiv:2009.14794";
  double epsilon = 1e-3;
};

/// Positive random features. Rows are drawn once, here, and shared by copies; draw anew by making another.
///
/// Shape   maps [.., head_dim] to [.., num_features].
/// Rows    Gaussian; orthogonal within blocks of head_dim rows unless `orthogonal` is off, which lowers the variance.
/// Edge    A query's features are scaled by their own largest exponent, which the normalizer cancels, so that no row
///         vanishes; features of keys are not: they overflow float32 for |x'|^2 beyond about 80 along a random row.
///         For that reason Favor is used with LinearAttendOptions::normalize alone.
class Favor {
 public:
  static constexpr std::string_view name = "favor";
  static constexpr std::string_view source = "Rethinking attention with Performers, arXiv:2009.14794";
  /// scale: 0 means 1 / sqrt(head_dim). Throws Error for widths below 1 or a scale below 0.
  Favor(int head_dim, int num_features, std::uint64_t seed, bool orthogonal = true, double scale = 0);
  int head_dim() const { return head_dim_; }
  int num_features() const { return num_features_; }
  double scale() const { return scale_; }
  /// The random rows [num_features, head_dim].
  const std::vector<double>& rows() const { return *rows_; }

 private:
  int head_dim_, num_features_;
  double scale_;
  std::shared_ptr<const std::vector<double>> rows_;
};

}  // namespace attune::features

namespace attune {

using FeatureMap = std::variant<features::Identity, features::EluPlusOne, features::Relu, features::Favor>;

/// Width of phi(x) for an x of head_dim numbers.
int feature_width(const FeatureMap& map, int head_dim);
/// "identity", "elu_plus_one", "relu", "favor".
std::string_view name_of(const FeatureMap& map);

}  // namespace attune

// The normalizers of the contract tests, each beside its formula.
#pragma once
#include "attune/attention/formulas/normalizers.hpp"
#include "attune/attention/normalize/all.hpp"
#include "contract/variant.hpp"

namespace attune::contract {

inline const Variants& normalizers() {
  using Kind = kernels::ReferenceNormalizer;
  const auto known = [](AnyNormalizer stage, formula::NormalizerFormula plain, Kind kind) {
    return [=](Scenario& s) {
      s.options.normalizer = stage;
      s.plain.normalizer = plain;
      s.reference.normalizer = kind;
      s.kinks = kind == Kind::sparsemax;
    };
  };
  static const Variants all = {
      {"softmax", known(Softmax{}, formula::softmax(), Kind::softmax)},
      {"softmax_with_sink", known(SoftmaxWithSink{}, formula::softmax_with_sink(), Kind::softmax_with_sink)},
      {"sigmoid", known(Sigmoid{}, formula::sigmoid(), Kind::sigmoid)},
      {"sparsemax", known(Sparsemax{}, formula::sparsemax(), Kind::sparsemax)}};
  return all;
}

}  // namespace attune::contract

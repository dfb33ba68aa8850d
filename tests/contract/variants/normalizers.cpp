// The normalizers of the contract tests, each beside its formula.
#include "attune/attention/formulas/normalizers.hpp"
#include "attune/attention/normalize/all.hpp"
#include "attune/attention/pointwise_probs.hpp"
#include "contract/scenario.hpp"

namespace attune::contract {
namespace {

/// Neither linear nor 0 at 0, and another one for every head and position.
template <class P>
P own_weight(P p, int head, int position) {
  return P(0.7 + 0.1 * head) * p * p + P(0.4) * p + P(0.01 + 0.001 * position);
}
formula::NormalizerFormula own_weights() {
  return [](const formula::Pair& at, auto x, std::span<const int> keys, auto arrays) {
    using S = formula::ScalarOf<decltype(x)>;
    formula::Row<S> row = formula::softmax().on<S>()(at, x, keys, arrays);
    for (S& p : row.probs) p = own_weight(p, at.head, at.position());
    return row;
  };
}

}  // namespace

const Variants& normalizers() {
  using Kind = kernels::ReferenceNormalizer;
  const auto known = [](AnyNormalizer stage, formula::NormalizerFormula plain, Kind kind) {
    return [=](Scenario& s) {
      s.options.normalizer = stage;
      s.plain.normalizer = plain;
      s.reference.normalizer = kind;
      s.kinks = kind == Kind::sparsemax;
    };
  };
  // What the oracle does not know: the plain formula alone.
  const auto plain = [](AnyNormalizer stage, formula::NormalizerFormula formula, bool kinks = false) {
    return [=](Scenario& s) {
      s.options.normalizer = stage;
      s.plain.normalizer = formula;
      s.has_oracle = false;
      s.kinks = kinks;
    };
  };
  // A straight-through gradient: weights of one formula, derivative of another.
  const auto hard = [=](Scenario& s) {
    plain(Hard{}, formula::hard())(s);
    s.surrogate = formula::softmax();
  };
  static const Variants all = {
      {"softmax", known(Softmax{}, formula::softmax(), Kind::softmax)},
      {"softmax_with_sink", known(SoftmaxWithSink{}, formula::softmax_with_sink(), Kind::softmax_with_sink)},
      {"sigmoid", known(Sigmoid{}, formula::sigmoid(), Kind::sigmoid)},
      {"sparsemax", known(Sparsemax{}, formula::sparsemax(), Kind::sparsemax)},
      {"softmax_off_by_one",
       [=](Scenario& s) {
         plain(SoftmaxOffByOne{}, formula::softmax_off_by_one())(s);
         s.reference.normalizer = Kind::softmax_with_sink;  // statistics count one more key
       }},
      {"entmax15", plain(Entmax15{}, formula::entmax15(), true)},
      {"entmax", plain(Entmax{}, formula::entmax(), true)},
      {"relu", plain(Relu{}, formula::relu(1), true)},
      {"relu_squared", plain(ReluSquared{}, formula::relu(2), true)},
      {"unnormalized", plain(Unnormalized{}, formula::unnormalized())},
      {"hard", hard},
      {"stick_breaking", plain(StickBreaking{}, formula::stick_breaking())},
      {"pointwise_probs",
       plain(pointwise_probs([](auto p, RowIndex at) { return own_weight(p, at.head, at.query); }), own_weights())}};
  return all;
}

}  // namespace attune::contract

// The scores of the contract tests, each beside its formula.
#include "attune/attention/formulas/scores.hpp"
#include "attune/attention/score/all.hpp"
#include "contract/scenario.hpp"

namespace attune::contract {

const Variants& scores() {
  auto additive = [](int wider) {
    return [=](Scenario& s) {
      s.shape.key_dim += wider;
      s.options.score = Additive{.hidden_dim = 5};
      s.plain.score = formula::additive(5);
      s.reference.score = kernels::ReferenceScore::additive;
      s.reference.hidden_dim = 5;
    };
  };
  // What the hand-written oracle does not know; keys `wider` than queries.
  auto score = [](AnyScore stage, formula::ScoreFormula plain, int wider = 0) {
    return [=](Scenario& s) {
      s.shape.key_dim += wider;
      s.options.score = stage;
      s.plain.score = plain;
      s.has_oracle = false;
      s.ranges["temperature"] = {0.3, 0.9};
      s.ranges["bandwidth"] = {0.8, 2};
    };
  };
  // Sized by the shape of the case.
  auto sized = [](auto make) {
    return [=](Scenario& s) {
      make(s);
      s.has_oracle = false;
    };
  };
  static const Variants all = {
      {"scaled_dot", [](Scenario& s) { s.plain.score = formula::scaled_dot(); }},
      {"scaled_dot",
       [](Scenario& s) {
         s.options.score = ScaledDot{.scale = -0.7};
         s.plain.score = formula::scaled_dot(-0.7);
         s.reference.scale = -0.7;
       }},
      {"additive", additive(0)},
      {"additive", additive(1)},  // key_dim is not query_dim
      {"dot", score(Dot{}, formula::dot())},
      {"bilinear", score(Bilinear{}, formula::bilinear())},
      {"concat", score(Concat{.hidden_dim = 3}, formula::concat(3), 1)},
      {"mlp", score(MlpScore{.hidden = {3, 4, 2}}, formula::mlp({3, 4, 2}, ScoreActivation::tanh), 1)},
      {"mlp", score(MlpScore{.hidden = {5, 3}, .activation = ScoreActivation::gelu},
                    formula::mlp({5, 3}, ScoreActivation::gelu))},
      {"cosine", score(CosineScore{}, formula::cosine())},
      {"qk_norm", score(NormalizedDot{.epsilon = 1e-3, .scale = 0.6}, formula::qk_norm(RowNorm::rms, 1e-3, 0.6))},
      {"qk_norm", score(NormalizedDot{.norm = RowNorm::l2}, formula::qk_norm(RowNorm::l2, 1e-6, 1))},
      {"squared_distance", score(SquaredDistance{.scale = 0.3}, formula::squared_distance(0.3))},
      {"gaussian", score(GaussianKernel{}, formula::gaussian())},
      {"location", score(LocationBased{.num_positions = 15}, formula::location(15))},
      {"local_p", score(LocalP{.hidden_dim = 3, .half_width = 5, .scale = 0.4}, formula::local_p(3, 5, 0.4))},
      {"shaw", sized([](Scenario& s) {
         s.options.score = Shaw{.max_distance = 3};
         s.plain.score = formula::shaw(3, Per::call, 1 / std::sqrt(double(s.shape.key_dim)));
       })},
      {"shaw", score(Shaw{.max_distance = 20, .per = Per::head, .scale = 0.5}, formula::shaw(20, Per::head, 0.5))},
      {"transformer_xl", sized([](Scenario& s) {
         s.options.score = TransformerXl{};
         s.plain.score = formula::transformer_xl(s.shape.key_dim, 10000);
       })},
      {"transformer_xl", score(TransformerXl{.sinusoid_dim = 2, .base = 30}, formula::transformer_xl(2, 30))},
      {"deberta", score(Deberta{.max_distance = 4}, formula::deberta(4))}};
  return all;
}

}  // namespace attune::contract

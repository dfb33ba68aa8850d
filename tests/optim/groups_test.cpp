// Factors of the learning rate: what they do, what they are made from, and how a rate explains itself.
#include "attune/optim/groups.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "optim/golden_problem.hpp"

namespace attune::optim {
namespace {

using nlohmann::json;

/// Rows of a model of two blocks: a table, a fused projection of two heads, a head.
std::vector<ParameterRows> model_rows(const std::vector<Tensor>& w) {
  return {{"embedding.weight", w[0], 0, 6, Role::embedding, 0, -1},
          {"layer0.attention.weight_in", w[1], 0, 2, Role::query, 1, 0},
          {"layer0.attention.weight_in", w[1], 2, 4, Role::query, 1, 1},
          {"layer0.attention.weight_in", w[1], 4, 6, Role::key, 1, 0},
          {"layer0.attention.weight_in", w[1], 6, 8, Role::value, 1, 0},
          {"layer1.norm.weight", w[2], 0, 3, Role::norm, 2, -1},
          {"output.weight", w[3], 0, 5, Role::head, 3, -1}};
}
std::vector<Tensor> model_weights() {
  Generator generator(11);
  std::vector<Tensor> w{Tensor::randn({6, 3}, generator, DType::float64),
                        Tensor::randn({8, 3}, generator, DType::float64), Tensor::randn({3}, generator, DType::float64),
                        Tensor::randn({5, 3}, generator, DType::float64)};
  for (Tensor& x : w) x.requires_grad();
  return w;
}
void set_random_gradients(std::vector<Tensor>& weights, Generator& generator) {
  for (Tensor& w : weights) w.grad().copy_from(Tensor::randn(w.shape(), generator, DType::float64));
}
/// The factor that a row gets from a list.
double factor_of(const std::vector<RowFactor>& factors, const Tensor& parameter, std::int64_t row) {
  double product = 1;
  for (const RowFactor& f : factors) {
    if (f.parameter.is(parameter) && f.first <= row && row < f.end) product *= f.factor;
  }
  return product;
}

TEST(Groups, FactorsFromRolesDepthsHeadsAndWidth) {
  const auto w = model_weights();
  const auto rows = model_rows(w);
  const auto roles = row_factors(rows, {.roles = {{Role::query, 0.5}, {Role::embedding, 0}}});
  EXPECT_EQ(factor_of(roles, w[0], 5), 0);
  EXPECT_EQ(factor_of(roles, w[1], 3), 0.5);
  EXPECT_EQ(factor_of(roles, w[1], 4), 1);
  const auto depths = row_factors(rows, {.layer_decay = 0.5, .layers = {3, 7}});
  EXPECT_EQ(factor_of(depths, w[0], 0), 0.125);
  EXPECT_EQ(factor_of(depths, w[1], 0), 0.25 * 3);
  EXPECT_EQ(factor_of(depths, w[2], 0), 0.5 * 7);
  EXPECT_EQ(factor_of(depths, w[3], 0), 1);
  const auto heads = row_factors(rows, {.query_heads = {1, 0.25}, .key_heads = {2}});
  EXPECT_EQ(factor_of(heads, w[1], 1), 1);
  EXPECT_EQ(factor_of(heads, w[1], 2), 0.25);
  EXPECT_EQ(factor_of(heads, w[1], 5), 2);
  const auto width = row_factors(rows, {.base_width = 1});  // the model is 3 wide
  EXPECT_DOUBLE_EQ(factor_of(width, w[1], 7), 1.0 / 3);
  EXPECT_EQ(factor_of(width, w[0], 0), 1);
  EXPECT_EQ(factor_of(width, w[2], 0), 1);
  EXPECT_EQ(factor_of(width, w[3], 0), 1);
  EXPECT_THROW(row_factors(rows, {.roles = {{Role::key, -1}}}), Error);
  EXPECT_THROW(row_factors(rows, {.layer_decay = 0}), Error);
  EXPECT_THROW(row_factors(rows, {.layers = {1}}), Error);
  EXPECT_THROW(row_factors(rows, {.query_heads = {1, 1, 1}}), Error);
}

/// A factor of rows does what a group of these rows alone would do.
TEST(Groups, RowsMoveAsIfTheyWereAGroup) {
  for (const json& c : golden_cases()) {
    const std::string kind = c["kind"];
    // Prodigy has one rate for all. Adafactor's is limited by 1 / sqrt(t): a factor of its group is not one of its
    // update.
    if (c.contains("groups") || kind == "prodigy" || kind == "adafactor") continue;
    Problem rows, groups;
    json grouped = c;
    grouped["weight_decay"] = c.value("weight_decay", 0.0);
    grouped["groups"] = json::array({{{"parameters", {0}}, {"learning_rate_factor", 1.0}, {"weight_decay", true}},
                                     {{"parameters", {1}}, {"learning_rate_factor", 0.5}, {"weight_decay", true}},
                                     {{"parameters", {2}}, {"learning_rate_factor", 1.0}, {"weight_decay", true}}});
    const auto a = make(c, rows.weights), b = make(grouped, groups.weights);
    a->set_row_factors({{rows.weights[1], 0, 2, 0.5, "some", {}}, {rows.weights[1], 2, 5, 0.5, "others", {}}});
    for (std::int64_t t = 0; t < 20; ++t) {
      rows.set_gradients<double>(t);
      groups.set_gradients<double>(t);
      a->advance();
      b->advance();
    }
    for (std::size_t i = 0; i < 23; ++i) EXPECT_NEAR(rows.values()[i], groups.values()[i], 1e-13) << c["name"];
  }
}

TEST(Groups, PartsOfAMatrixAndUnfactoredRowsKeepTheirBits) {
  for (const char* name : {"adamw", "lamb", "muon", "schedule_free"}) {
    json c;
    for (const json& one : golden_cases()) {
      if (one["name"] == name) c = one;
    }
    Problem plain, scaled;
    const auto a = make(c, plain.weights), b = make(c, scaled.weights);
    b->set_row_factors({{scaled.weights[0], 1, 2, 0.25, "head", {}}, {scaled.weights[0], 1, 3, 0, "frozen", {}}});
    const auto before = plain.values();
    plain.set_gradients<double>(0);
    scaled.set_gradients<double>(0);
    a->advance();
    b->advance();
    for (std::size_t i = 0; i < 23; ++i) {
      const bool frozen = i >= 4 && i < 12;
      EXPECT_EQ(scaled.values()[i], frozen ? before[i] : plain.values()[i]) << name << " " << i;
    }
  }
}

TEST(Groups, ARateIsTheProductOfWhatItSays) {
  auto w = model_weights();
  std::vector<ParameterGroup> groups{{{w[0], w[1]}, 1, true, {}}, {{w[2], w[3]}, 0.5, false, "late"}};
  AdamW optimizer(groups, {.learning_rate = 0.04, .schedule = schedule::Linear{.warmup = 4, .total = 8}});
  optimizer.set_row_factors(row_factors(model_rows(w), {.roles = {{Role::query, 0.5}}, .layer_decay = 0.5}));
  optimizer.set_rate_multiplier(0.5);
  const auto expected = [](std::vector<RateFactor> f) { return f; };
  // Before the first step: of the first step.
  EXPECT_EQ(optimizer.rate_of(1, 0, 2), expected({{"base", 0.04},
                                                  {"schedule", 0.25},
                                                  {"group", 1},
                                                  {"role query", 0.5},
                                                  {"depth 1 of 3", 0.25},
                                                  {"guard", 1},
                                                  {"rollback", 0.5}}));
  Generator generator(5);
  set_random_gradients(w, generator);
  optimizer.advance();
  set_random_gradients(w, generator);
  optimizer.propose();
  optimizer.scale_update(1, 2, 4, 0.5);
  optimizer.scale_update(1, 2, 4, 0.5);
  const auto head = optimizer.rate_of(1, 2, 4);
  EXPECT_EQ(head, expected({{"base", 0.04},
                            {"schedule", 0.5},
                            {"group", 1},
                            {"role query", 0.5},
                            {"depth 1 of 3", 0.25},
                            {"guard", 0.25},
                            {"rollback", 0.5}}));
  EXPECT_DOUBLE_EQ(product_of(head), 0.04 * 0.5 * 0.5 * 0.25 * 0.25 * 0.5);
  EXPECT_EQ(optimizer.rate_of(1, 0, 2)[5].value, 1);  // the other head's guard
  EXPECT_THROW(optimizer.rate_of(1, 0, 4), Error);    // not one rate
  const auto late = optimizer.rate_of(3, 0, 5);
  EXPECT_EQ(late[2], (RateFactor{"group late", 0.5}));
  optimizer.apply();
  EXPECT_EQ(optimizer.rate_of(1, 2, 4), head);  // after apply(): still of the step that was made
  optimizer.set_rate_multiplier(1);
  set_random_gradients(w, generator);
  optimizer.propose(0.125);
  EXPECT_EQ(optimizer.rate_of(0, 0, 6),
            expected({{"given", 0.125}, {"group", 1}, {"depth 0 of 3", 0.125}, {"guard", 1}, {"rollback", 1}}));
  optimizer.apply();
  EXPECT_THROW(optimizer.set_rate_multiplier(std::nan("")), Error);
  EXPECT_THROW(optimizer.set_row_factors({{w[0], 0, 7, 1, "", {}}}), Error);
  EXPECT_THROW(optimizer.set_row_factors({{w[0], 0, 6, -1, "", {}}}), Error);
}

TEST(Groups, TheRateIsTheOneThatActs) {
  // Sgd without momentum moves by rate * gradient.
  auto w = model_weights();
  Sgd sgd(w, {.learning_rate = 0.04, .schedule = schedule::Linear{.warmup = 4, .total = 8}});
  sgd.set_row_factors(row_factors(model_rows(w), {.roles = {{Role::key, 0.3}}, .query_heads = {1, 0.2}}));
  sgd.set_rate_multiplier(0.7);
  Generator generator(5);
  for (int t = 0; t < 3; ++t) {
    set_random_gradients(w, generator);
    const Tensor before = w[1].clone(), gradient = w[1].grad().clone();
    sgd.propose();
    sgd.scale_update(1, 4, 6, 0.5);
    sgd.apply();
    for (const std::int64_t row : {0, 2, 4, 6}) {
      const double rate = product_of(sgd.rate_of(1, row, row + 2));
      const std::size_t k = std::size_t(row) * 3;
      EXPECT_NEAR(before.to_vector()[k] - w[1].to_vector()[k], rate * gradient.to_vector()[k], 1e-15) << row;
    }
  }
}

TEST(Groups, SchedulesOfTheirOwn) {
  auto w = model_weights();
  const Schedule schedule = Schedule::from_json(
      R"({"kind": "per_group", "groups": {"query": {"kind": "constant"}, "otherwise": {"kind": "linear", "total": 10}}})");
  Sgd sgd(w, {.learning_rate = 1, .schedule = schedule});
  Generator generator(5);
  set_random_gradients(w, generator);
  EXPECT_THROW(sgd.propose(), Error);  // no rows are called query
  sgd.set_row_factors(row_factors(model_rows(w), {}));
  for (int t = 0; t < 5; ++t) {
    set_random_gradients(w, generator);
    sgd.advance();
  }
  EXPECT_EQ(product_of(sgd.rate_of(1, 0, 2)), 1);
  EXPECT_EQ(product_of(sgd.rate_of(1, 4, 6)), 0.6);
  EXPECT_EQ(product_of(sgd.rate_of(0, 0, 6)), 0.6);
}

TEST(Groups, OneDistanceForAll) {
  auto w = model_weights();
  Prodigy prodigy(w, {});
  EXPECT_THROW(prodigy.set_row_factors({{w[0], 0, 6, 0.5, "half", {}}}), Error);
  EXPECT_THROW(Prodigy(std::vector<ParameterGroup>{{{w[0]}, 0.5}}, {}), Error);
  prodigy.set_row_factors({{w[0], 0, 6, 0, "frozen", {}}});
  const auto before = w[0].to_vector();
  for (int t = 0; t < 3; ++t) {
    for (Tensor& x : w) x.grad().copy_from(x);  // downhill to 0
    prodigy.advance();
  }
  EXPECT_EQ(w[0].to_vector(), before);
  const auto rate = prodigy.rate_of(1, 0, 8);
  EXPECT_EQ(rate[3].name, "distance");
  EXPECT_GT(prodigy.distance(), 1e-6);
}

TEST(Groups, MuonTakesHiddenMatricesOneByOne) {
  auto w = model_weights();
  Muon muon({{w}}, {.learning_rate = 0.1, .weight_decay = 0}, model_rows(w));
  EXPECT_FALSE(muon.orthogonalizes(0));  // an embedding
  EXPECT_TRUE(muon.orthogonalizes(1));
  EXPECT_FALSE(muon.orthogonalizes(2));  // a vector
  EXPECT_FALSE(muon.orthogonalizes(3));  // the head
  Generator generator(5);
  set_random_gradients(w, generator);
  muon.propose();
  // Each of query [4, 3], key [2, 3] and value [2, 3] has singular values near 1, so norms near their square root.
  const auto norm = [&](std::int64_t first, std::int64_t end) { return muon.update_norm(1, first, end) / 0.1; };
  EXPECT_NEAR(norm(0, 4), std::sqrt(4.0 / 3) * std::sqrt(3.0), 0.5);
  EXPECT_NEAR(norm(4, 6), std::sqrt(2.0), 0.5);
  EXPECT_NEAR(norm(6, 8), std::sqrt(2.0), 0.5);
  muon.apply();
  auto rest = model_weights();
  auto roles = model_rows(rest);
  roles.erase(roles.begin() + 1);  // the first query head's rows have no role
  EXPECT_THROW(Muon({{rest}}, {}, roles), Error);
}

TEST(Groups, ScheduleFreeStaysConsistentWhenAPartIsScaled) {
  // A guard that halves every update is half the learning rate.
  Problem guarded, slow;
  ScheduleFree a(guarded.weights, {.learning_rate = 0.05}), b(slow.weights, {.learning_rate = 0.025});
  for (std::int64_t t = 0; t < 30; ++t) {
    guarded.set_gradients<double>(t);
    slow.set_gradients<double>(t);
    ASSERT_TRUE(a.propose());
    for (std::size_t i = 0; i < 3; ++i) a.scale_update(i, 0, guarded.weights[i].shape()[0], 0.5);
    a.apply();
    b.advance();
  }
  for (std::size_t i = 0; i < 23; ++i) EXPECT_NEAR(guarded.values()[i], slow.values()[i], 1e-14);
  a.eval();
  b.eval();
  for (std::size_t i = 0; i < 23; ++i) EXPECT_NEAR(guarded.values()[i], slow.values()[i], 1e-14);
}

TEST(Clip, RowsAgainstTheirWeights) {
  const Tensor w = Tensor::from({3, 4, 0, 0, 30, 40}, {3, 2}, DType::float64);
  Tensor g = Tensor::from({0.3, 0.4, 1, 0, 0.3, 0.4}, {3, 2}, DType::float64);
  clip_adaptively(w, g, 0.01);
  const auto v = g.to_vector();
  EXPECT_NEAR(v[0], 0.03, 1e-15);  // 0.05 of length
  EXPECT_NEAR(v[2], 1e-5, 1e-18);  // weights of 0 count as 1e-3
  EXPECT_DOUBLE_EQ(v[4], 0.3);     // 0.5 <= 0.01 * 50
  Tensor vector = Tensor::from({3, 4}, {2}, DType::float64);
  clip_adaptively(Tensor::from({1, 0}, {2}, DType::float64), vector, 0.1);
  EXPECT_NEAR(norm_of(vector), 0.1, 1e-15);
  EXPECT_THROW(clip_adaptively(w, vector, 0.1), Error);
  EXPECT_THROW(clip_adaptively(w, g, 0), Error);
}

TEST(Clip, OutliersAmongNorms) {
  ZClip clip;
  for (int t = 0; t < 25; ++t) EXPECT_EQ(clip.factor(t % 2 == 0 ? 1 : 1.2, 2.5, 0), 1) << t;
  EXPECT_EQ(clip.factor(1.1, 2.5, 0), 1);
  const double factor = clip.factor(11, 2.5, 0);
  EXPECT_LT(factor * 11, 1.4);
  EXPECT_GT(factor * 11, 1.0);
  EXPECT_NEAR(clip.factor(1.1, 2.5, 0.55), 0.5, 1e-5);
  EXPECT_THROW(clip.factor(std::nan(""), 2.5, 0), Error);
  EXPECT_THROW(clip.factor(1, 0, 0), Error);
}

}  // namespace
}  // namespace attune::optim

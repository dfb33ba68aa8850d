// What attention modules tell of themselves: roles, sites and what was seen there, for every one of them in a small
// model. Whether rows are those of a head is told by zeroing them and watching which head's scores vanish.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "nn/attention_modules.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

class Told : public testing::TestWithParam<AttentionCase> {};

Ids some_ids() {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 14; ++i) ids.push_back(i * i % 9);
  return {ids, {2, 7}};
}

/// The largest |score| of every head, by site.
using Scores = std::map<std::string, std::vector<double>>;
Scores scores_of(Module& model, const std::function<void()>& pass, std::vector<std::string>* order = nullptr) {
  const NoGrad no_grad;
  std::vector<SiteStatistics> seen;
  {
    const AttentionWatch watch(model, seen);
    pass();
  }
  Scores all;
  for (const SiteStatistics& s : seen) {
    if (order && !all.contains(s.name)) order->push_back(s.name);
    std::vector<double>& heads = all[s.name];
    heads.resize(std::size_t(s.statistics.num_heads));
    for (std::size_t i = 0; i < s.statistics.largest_score.size(); ++i) {
      double& to = heads[i % heads.size()];
      to = std::max({to, s.statistics.largest_score[i], -s.statistics.smallest_score[i]});
    }
  }
  return all;
}

TEST_P(Told, EveryRowHasARole) {
  SmallModel model(GetParam(), 9);
  std::map<std::string, std::int64_t> covered;
  std::map<std::string, std::set<Role>> roles;  // of each module below the first block
  for (const ParameterRows& r : parameter_roles(model)) {
    EXPECT_EQ(r.first, covered[r.parameter]) << r.parameter;
    covered[r.parameter] = r.end;
    EXPECT_NE(r.role, Role::other) << r.parameter;
    const bool in_first = r.parameter.starts_with("layer0"), in_second = r.parameter.starts_with("layer1");
    EXPECT_EQ(r.depth, in_first ? 1 : in_second ? 2 : r.role == Role::embedding ? 0 : 3) << r.parameter;
    if (r.parameter.starts_with("layer0.attention.")) roles["attention"].insert(r.role);
    if (r.parameter == "output.weight") {
      EXPECT_EQ(r.role, Role::head);
    }
  }
  for (const NamedTensor& p : model.named_parameters()) EXPECT_EQ(covered[p.name], p.tensor.shape()[0]) << p.name;
  EXPECT_TRUE(roles["attention"].contains(Role::key));
  const bool pools = GetParam().name == "additive" || GetParam().name == "parallel_co_attention";
  for (const Role role : {Role::value, Role::output}) EXPECT_EQ(roles["attention"].contains(role), !pools);
}

TEST_P(Told, SitesAreWhatIsSeen) {
  SmallModel model(GetParam(), 9);
  const std::vector<AttentionSite> sites = attention_sites(model);
  EXPECT_EQ(sites.empty(), GetParam().name == "linear");  // its memory has no scores
  const Tensor before = model(some_ids());
  Tensor watched;
  std::vector<std::string> order;
  const Scores scores = scores_of(
      model, [&] { watched = model(some_ids()); }, &order);
  EXPECT_EQ(watched.to_vector(), before.to_vector());
  ASSERT_EQ(order.size(), sites.size());
  for (std::size_t i = 0; i < sites.size(); ++i) EXPECT_EQ(order[i], sites[i].name);
  for (const AttentionSite& site : sites) {
    ASSERT_TRUE(scores.contains(site.name)) << site.name;
    EXPECT_EQ(std::int64_t(scores.at(site.name).size()), site.num_heads()) << site.name;
    EXPECT_EQ(site.num_heads() % site.num_kv_heads(), 0) << site.name;
  }
  EXPECT_TRUE(scores_of(model, [] {}).empty());
}

void set_to_zero(const TensorRows& rows) {
  if (!rows.tensor.defined()) return;
  Tensor t = rows.tensor;
  const std::int64_t width = t.size() / t.shape()[0];
  std::fill(t.data<float>() + rows.first * width, t.data<float>() + rows.end * width, 0.0f);
}

TEST_P(Told, RowsAreThoseOfTheHead) {
  Generator g(3);
  const Tensor x = Tensor::randn({2, 7, kWidth}, g);
  const auto fresh = [&] {
    set_seed(7);
    const AnyAttention a = GetParam().make();
    Generator noise(5);
    for (const NamedTensor& p : a.module->named_parameters()) {
      if (p.name.find("bias") != std::string::npos) Tensor(p.tensor).copy_from(Tensor::randn(p.tensor.shape(), noise));
    }
    return a;
  };
  const AnyAttention model = fresh();
  const Scores before = scores_of(*model.module, [&] { model.call(x); });
  for (std::size_t s = 0; s < attention_sites(*model.module).size(); ++s) {
    for (const bool key : {false, true}) {
      const AttentionSite same = attention_sites(*model.module)[s];
      for (std::size_t h = 0; h < std::size_t(same.num_heads()); ++h) {
        const AnyAttention other = fresh();
        const AttentionSite site = attention_sites(*other.module)[s];
        const std::size_t group = std::size_t(site.group());
        const HeadProjection& rows = key ? site.keys[h / group] : site.queries[h];
        const bool whole = rows.weight.tensor.defined() && (rows.also.empty() || !key);  // nothing else is left
        if (!whole || !site.proportional) continue;
        set_to_zero(rows.gain.tensor.defined() ? rows.gain : rows.weight);
        if (!rows.gain.tensor.defined()) set_to_zero(rows.bias);
        const Scores after = scores_of(*other.module, [&] { other.call(x); });
        EXPECT_GT(before.at(site.name)[h], 0.01) << site.name;
        EXPECT_LE(after.at(site.name)[h], other.floor + 1e-6) << site.name << " head " << h << (key ? " key" : "");
        for (std::size_t o = 0; o < std::size_t(site.num_heads()); ++o) {
          const HeadProjection& others = key ? site.keys[o / group] : site.queries[o];
          const bool shared = others.weight.tensor.is(rows.weight.tensor) && others.weight.first == rows.weight.first &&
                              (!rows.gain.tensor.defined() || others.gain.first == rows.gain.first);
          if (!shared) {
            EXPECT_EQ(after.at(site.name)[o], before.at(site.name)[o]) << site.name << " head " << o;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Told, testing::ValuesIn(every_attention()), [](const auto& c) { return c.param.name; });

TEST(ToldRoles, ParentsAreBelievedAndGapsAreErrors) {
  struct Own : Module {
    Linear inner{{.in = 2, .out = 4}};
    std::vector<ParameterRows> told;
    Own() { add_module("inner", inner); }
    std::vector<ParameterRows> own_roles() const override { return told; }
  } own;
  own.told = {{{}, own.inner.weight, 0, 1, Role::query}, {{}, own.inner.weight, 1, 4, Role::value}};
  const auto rows = parameter_roles(own);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1].role, Role::value);
  EXPECT_EQ(rows[1].parameter, "inner.weight");
  EXPECT_EQ(rows[2].role, Role::other);
  own.told[1].end = 3;
  EXPECT_THROW(parameter_roles(own), Error);
  own.told[1] = {{}, own.inner.weight, 2, 4, Role::value};
  EXPECT_THROW(parameter_roles(own), Error);
}

}  // namespace
}  // namespace attune::nn

// LatentAttention against plain loops; that its two forms and its decoding agree; its gradients and masks.
#include "attune/nn/latent_attention.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

LatentAttentionOptions small_latent(std::int64_t rotary_dim = 2, std::int64_t query_latent_dim = 0) {
  LatentAttentionOptions o{.model_dim = 6, .num_heads = 2, .head_dim = 3, .rotary_dim = rotary_dim};
  o.value_dim = 2, o.latent_dim = 4, o.query_latent_dim = query_latent_dim;
  o.mask = Causal{};
  return o;
}
Tensor named(const Module& m, const std::string& name) {
  for (const NamedTensor& p : m.named_parameters()) {
    if (p.name == name) return p.tensor;
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}
/// Norms whose gains are not all 1.
void shake_norms(LatentAttention& m) {
  m.to(DType::float64);
  for (NamedTensor p : m.named_parameters()) {
    if (p.name.ends_with("norm.weight")) p.tensor.copy_from(normal(p.tensor.shape(), 31));
  }
}

Table latent_by_loops(const LatentAttention& m, const Table& x, const Visible& visible) {
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, dr = o.rotary_dim, dv = o.value_dim, r = o.latent_dim;
  Table q;
  if (o.query_latent_dim == 0) {
    q = project(x, named(m, "query.weight"));
  } else {
    const auto gain = named(m, "query_norm.weight").to_vector();
    q = project(rms_rows(project(x, named(m, "query_down.weight")), o.epsilon, gain), named(m, "query_up.weight"));
  }
  const Table both = project(x, named(m, "latent.weight"));
  const Table c = rms_rows(columns(both, 0, r), o.epsilon, named(m, "latent_norm.weight").to_vector());
  const Table turned = turned_rows(columns(both, r, dr), int(dr)), expanded = project(c, named(m, "expand.weight"));
  std::vector<Table> heads;
  for (std::int64_t h = 0; h < o.num_heads; ++h) {
    const Table query = turned_rows(columns(q, h * (dr + d), dr + d), int(dr));
    const Table key = beside({turned, columns(expanded, h * (d + dv), d)});
    heads.push_back(attended(query, key, columns(expanded, h * (d + dv) + d, dv), visible));
  }
  return project(beside(heads), named(m, "out.weight"));
}

TEST(LatentAttention, EqualsPlainLoopsInBothForms) {
  for (const auto& [rotary, query_latent] : {std::pair{2, 0}, {2, 5}, {0, 0}}) {
    SCOPED_TRACE(rotary * 10 + query_latent);
    set_seed(30);
    LatentAttention m(small_latent(rotary, query_latent));
    shake_norms(m);
    const Tensor x = normal({2, 5, 6}, 32);
    for (LatentForm form : {LatentForm::expanded, LatentForm::absorbed}) {
      const Tensor y = m(x, {}, form);
      for (int b : {0, 1}) expect_table(y, b, latent_by_loops(m, table(x, b), causal_visible));
    }
  }
}

TEST(LatentAttention, HasRightGradientsInBothForms) {
  for (LatentForm form : {LatentForm::expanded, LatentForm::absorbed}) {
    set_seed(33);
    LatentAttention m(small_latent(2, 3));
    shake_norms(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 4, 6}, 34));
    expect_gradients(
        [&](const Inputs& all) {
          return m(all.back(), {.valid_keys = {4, 2}}, form);
        },
        in, {.taylor_length = 0.03});
  }
}

TEST(LatentAttention, DecodesWhatItReads) {
  for (int rotary : {4, 0}) {
    set_seed(35);
    LatentAttention m(small_latent(rotary));
    shake_norms(m);
    const Tensor x = normal({2, 20, 6}, 36), whole = m(x);
    NoGrad no_grad;
    KvCache cache;
    std::vector<Tensor> parts{m.step(slice(x, 1, 0, 3), cache)};
    for (int t = 3; t < 20; ++t) parts.push_back(m.step(slice(x, 1, t, t + 1), cache));
    EXPECT_LT(error_of(concat(parts, 1), whole), 1e-13);
    EXPECT_EQ(cache.length, 20);
    EXPECT_EQ(cache.rows.shape()[2], rotary + 4);  // all that is kept of a token
  }
}

TEST(LatentAttention, HidesWhatIsPadding) {
  LatentAttentionOptions o = small_latent();
  o.mask = {};
  LatentAttention m(o);
  m.to(DType::float64);
  Tensor x = normal({2, 5, 6}, 37);
  for (int i = 3 * 6; i < 5 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  for (LatentForm form : {LatentForm::expanded, LatentForm::absorbed}) {
    const Tensor y = m(x, {.valid_keys = {3, 0}}, form);
    expect_table(y, 0, latent_by_loops(m, table(x, 0), [](int, int j) { return j < 3; }), 3);
    expect_table(y, 1, Table(5, std::vector<double>(6, 0)));
  }
}

TEST(LatentAttention, NamesItsMembers) {
  std::vector<std::string> names;
  for (const NamedTensor& p : LatentAttention(small_latent(2, 5)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"query_down.weight [5, 6]", "query_norm.weight [5]",
                                             "query_up.weight [10, 5]", "latent.weight [6, 6]",
                                             "latent_norm.weight [4]", "expand.weight [10, 4]", "out.weight [6, 4]"}));
}

TEST(LatentAttention, RefusesBadOptionsAndGradientsInDecoding) {
  EXPECT_THROW(LatentAttention({.model_dim = 6, .num_heads = 2}), Error);
  EXPECT_THROW(LatentAttention({.model_dim = 6, .num_heads = 2, .rotary_dim = 3, .latent_dim = 4}), Error);
  LatentAttention m(small_latent());
  KvCache cache;
  EXPECT_THROW(m.step(normal({1, 1, 6}, 1, DType::float32), cache), Error);
  EXPECT_THROW(m(normal({1, 2, 5}, 1, DType::float32)), Error);
}

}  // namespace
}  // namespace attune::nn

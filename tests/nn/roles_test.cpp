// Roles of the rows of a model: heads, depths, names.
#include "attune/nn/roles.hpp"

#include <gtest/gtest.h>

#include <map>

#include "attune/attention/normalize/softmax_with_sink.hpp"
#include "attune/base/error.hpp"
#include "attune/nn/embedding.hpp"
#include "attune/nn/positions.hpp"
#include "attune/nn/transformer.hpp"

namespace attune::nn {
namespace {

struct TwoStacks : Module {
  Embedding source;
  LearnedPositions positions;
  TransformerEncoder encoder;
  TransformerDecoder decoder;
  Linear output;
  static TransformerOptions stack(std::int64_t num_layers) {
    TransformerOptions o;
    o.num_layers = num_layers;
    o.model_dim = 8;
    o.num_heads = 4;
    o.num_kv_heads = 2;
    o.feed_forward_dim = 12;
    return o;
  }
  TwoStacks()
      : source({.num_ids = 5, .dim = 8}),
        positions({.num_positions = 6, .model_dim = 8}),
        encoder(stack(2)),
        decoder(stack(1)),
        output({.in = 8, .out = 5}) {
    add_module("source_embedding", source);
    add_module("positions", positions);
    add_module("encoder", encoder);
    add_module("decoder", decoder);
    add_module("output", output);
  }
};

TEST(Roles, EveryRowHasOne) {
  TwoStacks model;
  const auto rows = parameter_roles(model);
  std::map<std::string, std::int64_t> covered;
  for (const ParameterRows& r : rows) {
    EXPECT_EQ(r.first, covered[r.parameter]) << r.parameter;  // in order, without gaps
    covered[r.parameter] = r.end;
  }
  const auto parameters = model.named_parameters();
  EXPECT_EQ(covered.size(), parameters.size());
  for (const NamedTensor& p : parameters) EXPECT_EQ(covered[p.name], p.tensor.shape()[0]) << p.name;
}

TEST(Roles, HeadsAreBlocksOfRows) {
  TwoStacks model;
  const auto rows = parameter_roles(model);
  // D is 2: 4 query heads, 2 key heads, 2 value heads.
  const auto query = rows_named(rows, "encoder.layer0.attention.query.head1");
  ASSERT_EQ(query.size(), 2u);  // weight and bias
  EXPECT_EQ(query[0].parameter, "encoder.layer0.attention.weight_in");
  EXPECT_TRUE(query[0].tensor.is(model.encoder.layers[0]->attention.weight_in));
  EXPECT_EQ(query[0].first, 2);
  EXPECT_EQ(query[0].end, 4);
  EXPECT_EQ(query[0].role, Role::query);
  EXPECT_EQ(query[1].parameter, "encoder.layer0.attention.bias_in");
  const auto value = rows_named(rows, "decoder.layer0.cross_attention.value.head1");
  EXPECT_EQ(value[0].first, 14);
  EXPECT_EQ(value[0].end, 16);
  EXPECT_EQ(rows_named(rows, "cross_attention.key").size(), 4u);  // two heads of weight and bias
  EXPECT_EQ(rows_named(rows, "layer1.attention.query").size(), 8u);
}

TEST(Roles, DepthsCountBlocksOverBothStacks) {
  TwoStacks model;
  const auto rows = parameter_roles(model);
  const auto look = [&](std::string_view name) {
    const ParameterRows r = rows_named(rows, name)[0];
    return std::pair(r.role, r.depth);
  };
  EXPECT_EQ(look("source_embedding.weight"), std::pair(Role::embedding, std::int64_t(0)));
  EXPECT_EQ(look("positions.weight"), std::pair(Role::position, std::int64_t(0)));
  EXPECT_EQ(look("encoder.layer0.norm.weight"), std::pair(Role::norm, std::int64_t(1)));
  EXPECT_EQ(look("encoder.layer0.attention.norm.bias"), std::pair(Role::norm, std::int64_t(1)));
  EXPECT_EQ(look("encoder.layer1.feed_forward.expand.weight"), std::pair(Role::mlp, std::int64_t(2)));
  EXPECT_EQ(look("encoder.norm.weight"), std::pair(Role::norm, std::int64_t(2)));
  EXPECT_EQ(look("decoder.layer0.self_attention.weight_out"), std::pair(Role::output, std::int64_t(3)));
  EXPECT_EQ(look("decoder.norm.weight"), std::pair(Role::norm, std::int64_t(4)));
  EXPECT_EQ(look("output.weight"), std::pair(Role::head, std::int64_t(4)));
}

TEST(Roles, StagesLearnGainsAndMemoriesHaveTheirOwnRows) {
  MultiHeadAttention attention({.model_dim = 4, .num_heads = 2, .memory_dim = 3, .normalizer = SoftmaxWithSink{}});
  const auto rows = parameter_roles(attention);
  for (const ParameterRows& r : rows_named(rows, "weight_in")) EXPECT_EQ(r.role, Role::query);
  for (const ParameterRows& r : rows_named(rows, "weight_memory")) {
    EXPECT_EQ(r.role, r.first < 4 ? Role::key : Role::value) << r.first;
  }
  EXPECT_EQ(rows_named(rows, "weight_memory").size(), 4u);
  EXPECT_EQ(rows_named(rows, "key.head1")[0].first, 2);
}

TEST(Roles, NamesThatMeanNothingOrTwoThings) {
  TwoStacks model;
  const auto rows = parameter_roles(model);
  EXPECT_THROW(rows_named(rows, "layer0.norm.weight"), Error);  // of the encoder and of the decoder
  try {
    rows_named(rows, "encoder.layer0.attention.qeury");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("the nearest is `encoder.layer0.attention.query`"), std::string::npos);
  }
  for (const std::string& name : role_names()) EXPECT_EQ(name_of(role_from_name(name)), name);
  EXPECT_THROW(role_from_name("quary"), Error);
}

}  // namespace
}  // namespace attune::nn

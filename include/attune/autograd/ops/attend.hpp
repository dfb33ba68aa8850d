// attend(): the one sentence (attention/attend.hpp) as a differentiable operator.
//
// All gradients that the engine gives: query, key, value, every parameter of every stage, and through lse and entropy.
#pragma once
#include <vector>

#include "attune/attention/attend.hpp"
#include "attune/autograd/tensor.hpp"

namespace attune {

/// Which axes query, key, value and out have.
enum class HeadLayout : std::uint8_t {
  heads_first,  // [B, H, T, D]
  tokens_first  // [B, T, H, D]
};

/// What a call asks for beyond `out`.
struct AttendExtras {
  std::vector<Tensor> parameters;  // learned arrays of the stages, as attend_parameters() lists them
  HeadLayout layout = HeadLayout::heads_first;
  bool lse = false;         // return it, differentiable
  bool entropy = false;     // return it, differentiable; softmax and softmax_with_sink only
  bool statistics = false;  // per head; changes no bit of the result
  bool weights = false;     // probabilities before dropout, without history; costs B * H * Tq * Tk numbers
};

struct Attended {
  Tensor out;             // [B, H, Tq, Dv], or [B, Tq, H, Dv], or [B, Tq, H * Dv] of attend_packed
  Tensor lse, entropy;    // [B, H, Tq], nats, if asked for
  Tensor weights;         // [B, H, Tq, Tk], if asked for
  Statistics statistics;  // if asked for
};

/// out = normalize(mask(bias(score(position(query), position(key))))) . value.
/// Shapes, edges and errors are those of attend_forward.
Attended attend(const Tensor& query, const Tensor& key, const Tensor& value, const AttendOptions& = {},
                const AttendExtras& = {});

/// Which kernel such a call takes, how many extra bytes, and why.
Explanation explain(const Tensor& query, const Tensor& key, const Tensor& value, const AttendOptions& = {},
                    HeadLayout = HeadLayout::heads_first);

/// Heads that lie side by side in the rows of a wider tensor: columns column .. column + heads * dim - 1 of
/// tensor [B, T, width]. So the product of a fused projection is attended to where it lies.
struct PackedHeads {
  Tensor tensor;
  std::int64_t column = 0, heads = 0, dim = 0;
  std::int64_t tokens = -1;  // the first so many of each batch entry; -1: all T
};
/// attend() on packed heads; the three may share a tensor, whose gradient is then made in one piece. out is
/// [B, Tq, H * Dv]; extras.layout is not used.
Attended attend_packed(const PackedHeads& query, const PackedHeads& key, const PackedHeads& value,
                       const AttendOptions& = {}, const AttendExtras& = {});

}  // namespace attune

// What the lists of mechanisms (score/all.hpp, ...) are made with. A list is a macro that calls X for every type; from
// it follow the tuple of types and the promise that the library holds the compiled adaptors, so that a program which
// uses a built-in stage does not compile it once more.
#pragma once
#include <tuple>

#include "attune/attention/any_stage.hpp"

namespace attune::detail {
template <class Nothing, class... S>
struct Listed {
  using Tuple = std::tuple<S...>;
};
}  // namespace attune::detail

// clang-format off
#define ATTUNE_COMMA_TYPE(S) , S
#define ATTUNE_TUPLE_OF(EACH) detail::Listed<void EACH(ATTUNE_COMMA_TYPE)>::Tuple

// The adaptor of one stage for every scalar, declared or (EXTERN empty) compiled.
#define ATTUNE_ADAPTOR(EXTERN, OF, S) \
  EXTERN template struct detail::OF<S, float>; \
  EXTERN template struct detail::OF<S, double>; \
  EXTERN template struct detail::OF<S, Dual<double>>;
#define ATTUNE_EXTERN_SCORE(S) ATTUNE_ROW_MAP(extern, Score, S) ATTUNE_ADAPTOR(extern, OfScore, S)
#define ATTUNE_EXTERN_BIAS(S) ATTUNE_ADAPTOR(extern, OfBias, S)
#define ATTUNE_EXTERN_NORMALIZER(S) ATTUNE_ADAPTOR(extern, OfNormalizer, S)
#define ATTUNE_EXTERN_POSITION(S) ATTUNE_ROW_MAP(extern, Position, S) ATTUNE_ADAPTOR(extern, OfPosition, S)
// What an adaptor inherits counts as its own only if it is named too.
#define ATTUNE_ROW_MAP(EXTERN, OF, S) \
  EXTERN template struct detail::OfRowMap<S, float, OF<float>>; \
  EXTERN template struct detail::OfRowMap<S, double, OF<double>>; \
  EXTERN template struct detail::OfRowMap<S, Dual<double>, OF<Dual<double>>>;
// clang-format on

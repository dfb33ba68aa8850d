// Names: of enumerators, of the types in a list, and the nearest one to a word that is none.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::detail {

template <class E>
inline constexpr std::array<std::string_view, 0> kNames{};
// In the order of the enumerators.
template <>
inline constexpr std::array<std::string_view, 3> kNames<schedule::WarmupStart>{"nonzero", "zero", "value"};
template <>
inline constexpr std::array<std::string_view, 3> kNames<schedule::PastEnd>{"hold", "reference", "error"};
template <>
inline constexpr std::array<std::string_view, 5> kNames<schedule::Curve>{"linear", "cosine", "1-sqrt", "exponential",
                                                                         "square"};

template <class E>
std::string_view name_in(E x) {
  return kNames<E>.at(std::size_t(x));
}
template <class E>
std::optional<E> find_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames<E>.size(); ++i) {
    if (kNames<E>[i] == name) return E(i);
  }
  return std::nullopt;
}
template <class E>
std::string names_of() {
  return fmt::format("{}", fmt::join(kNames<E>, ", "));
}

template <class List>
std::vector<std::string> names_in_list() {
  return []<class... S>(std::type_identity<std::tuple<S...>>) {
    return std::vector<std::string>{std::string(S::name)...};
  }(std::type_identity<List>{});
}

/// f(S{}) for the type S of the list whose name that is.
template <class List, class F>
auto with_named(std::string_view function, std::string_view what, std::string_view name, F&& f) {
  using Result = decltype(f(std::tuple_element_t<0, List>{}));
  std::optional<Result> result;
  [&]<class... S>(std::type_identity<std::tuple<S...>>) {
    (void)((S::name == name && (result.emplace(f(S{})), true)) || ...);
  }(std::type_identity<List>{});
  if (!result) {
    const std::vector<std::string> known = names_in_list<List>();
    fail(function, fmt::format("{} of {}", what, fmt::join(known, ", ")),
         fmt::format("got `{}`; the nearest is `{}`", name, nearest(name, known)));
  }
  return std::move(*result);
}

}  // namespace attune::optim::detail

#include "attune/attention/mechanisms.hpp"

#include <fmt/format.h>

#include <tuple>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

template <class S>
std::vector<std::string> parameter_names(S s) {
  std::vector<std::string> names;
  if constexpr (requires { s.learned; }) s.learned = true;  // an optional parameter counts
  const AttendShape shape{1, 1, 1, 1, 1, 1, 1, 1};
  if constexpr (requires { s.parameters(shape); }) {
    for (const ParameterSpec& p : s.parameters(shape)) names.push_back(p.name);
  }
  return names;
}

template <class List>
void add(std::vector<Mechanism>& all, const char* kind) {
  [&]<class... S>(std::type_identity<std::tuple<S...>>) {
    (all.push_back({kind, std::string(S::name), parameter_names(S{})}), ...);
  }(std::type_identity<List>{});
}

}  // namespace

std::vector<Mechanism> mechanisms() {
  std::vector<Mechanism> all;
  add<AllPositions>(all, "position");
  add<AllScores>(all, "score");
  add<AllBiases>(all, "bias");
  all.push_back({"bias", "pointwise", {}});  // a type per lambda, so it stands in no list
  add<AllMasks>(all, "mask");
  add<AllNormalizers>(all, "normalizer");
  return all;
}

void check_mechanism(const std::string& kind, const std::string& name) {
  std::string names;
  for (const Mechanism& m : mechanisms()) {
    if (m.kind != kind) continue;
    if (m.name == name) return;
    names += (names.empty() ? "" : ", ") + m.name;
  }
  fail("mechanisms",
       names.empty() ? "a kind: position, score, bias, mask or normalizer" : fmt::format("a {}: {}", kind, names),
       fmt::format("got {} \"{}\"", kind, name));
}

}  // namespace attune

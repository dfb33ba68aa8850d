#include "attune/attention/mechanisms.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <limits>
#include <tuple>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"

namespace attune {

std::span<const std::string_view> option_names(Per) {
  static constexpr std::array<std::string_view, 5> names = {"call", "batch", "head", "kv_head", "batch_head"};
  return names;
}

namespace {

/// Whether name and options make the stage. One that wants data says `by_name = false`.
template <class S>
constexpr bool is_by_name() {
  if constexpr (requires { S::by_name; })
    return S::by_name;
  else
    return true;
}
template <class S>
constexpr bool kByName = is_by_name<S>();

template <class S>
std::vector<StageOption> options_of(S& stage) {
  StageOptions visit;
  if constexpr (requires { stage.options(visit); }) stage.options(visit);
  return std::move(visit.options);
}

std::string text_of(const StageOption& option) {
  return std::visit(
      [](const auto& place) -> std::string {
        using Place = std::decay_t<decltype(place)>;
        if constexpr (std::is_same_v<Place, OptionChoice>)
          return std::string(place.names[*place.value]);
        else if constexpr (std::is_same_v<Place, std::optional<double>*>)
          return *place ? fmt::format("{}", **place) : "none";
        else
          return fmt::format("{}", *place);
      },
      option.place);
}

// ------------------------------------------------------------------------------------------------------ the table

template <class S>
Mechanism mechanism_of(const char* kind) {
  S stage;
  Mechanism m{.kind = kind, .name = std::string(S::name), .by_name = kByName<S>};
  for (const StageOption& o : options_of(stage)) m.options.push_back({std::string(o.name), text_of(o)});
  const AttendShape shape{1, 1, 1, 1, 1, 1, 1, 1};
  if constexpr (requires { stage.learned; }) stage.learned = true;  // an optional parameter counts
  if constexpr (requires { stage.fit(shape); }) stage.fit(shape);
  if constexpr (requires { stage.parameters(shape); }) {
    for (const ParameterSpec& p : stage.parameters(shape)) m.parameters.push_back(p.name);
  }
  m.source = std::string(S::source);
  m.cost = std::string(S::cost);
  const std::string_view k = kind;
  m.gradients = k == "mask" ? "none: sees indices only" : k == "score" || k == "position" ? "query, key" : "logits";
  for (const std::string& p : m.parameters) m.gradients += ", " + p;
  return m;
}

template <class List>
void add(std::vector<Mechanism>& all, const char* kind) {
  [&]<class... S>(std::type_identity<std::tuple<S...>>) {
    (all.push_back(mechanism_of<S>(kind)), ...);
  }(std::type_identity<List>{});
}

// ------------------------------------------------------------------------------------------------- the way back

[[noreturn]] void wrong_value(std::string_view stage, std::string_view option, const char* expected) {
  fail(std::string(stage), fmt::format("{} as {}", option, expected), "got a value of another type");
}

int whole(std::string_view stage, std::string_view option, double x) {
  if (x != std::floor(x) || std::abs(x) > std::numeric_limits<int>::max())
    fail(std::string(stage), fmt::format("{} as a whole number", option), fmt::format("got {}", x));
  return int(x);
}

void set(std::string_view stage, const StageOption& option, const OptionValue& value) {
  const auto number = [&](const char* expected) {
    if (!std::holds_alternative<double>(value)) wrong_value(stage, option.name, expected);
    return std::get<double>(value);
  };
  const auto numbers = [&] {
    if (!std::holds_alternative<std::vector<double>>(value)) wrong_value(stage, option.name, "a list of numbers");
    return std::get<std::vector<double>>(value);
  };
  std::visit(
      [&](const auto& place) {
        using Place = std::decay_t<decltype(place)>;
        if constexpr (std::is_same_v<Place, bool*>) {
          if (!std::holds_alternative<bool>(value)) wrong_value(stage, option.name, "true or false");
          *place = std::get<bool>(value);
        } else if constexpr (std::is_same_v<Place, int*>) {
          *place = whole(stage, option.name, number("a whole number"));
        } else if constexpr (std::is_same_v<Place, std::vector<double>*>) {
          *place = numbers();
        } else if constexpr (std::is_same_v<Place, std::vector<int>*>) {
          place->clear();
          for (const double x : numbers()) place->push_back(whole(stage, option.name, x));
        } else if constexpr (std::is_same_v<Place, OptionChoice>) {
          const auto* text = std::get_if<std::string>(&value);
          std::size_t n = 0;
          while (text && n < place.names.size() && place.names[n] != *text) ++n;
          if (!text || n == place.names.size()) {
            fail(std::string(stage), fmt::format("{} as one of {}", option.name, fmt::join(place.names, ", ")),
                 text ? fmt::format("got \"{}\"", *text) : "got no text");
          }
          *place.value = std::uint8_t(n);
        } else {
          *place = number("a number");
        }
      },
      option.place);
}

void set_all(std::string_view stage, const std::vector<StageOption>& options, const OptionValues& values) {
  for (const auto& [option, value] : values) {
    std::string names;
    bool known = false;
    for (const StageOption& o : options) {
      names += (names.empty() ? "" : ", ") + std::string(o.name);
      if (o.name == option) set(stage, o, value), known = true;
    }
    if (!known) {
      fail(std::string(stage), names.empty() ? "no options" : "an option: " + names, fmt::format("got \"{}\"", option));
    }
  }
}

/// The values that the options have.
OptionValues values_of(const std::vector<StageOption>& options) {
  OptionValues values;
  for (const StageOption& option : options) {
    std::visit(
        [&](const auto& place) {
          using Place = std::decay_t<decltype(place)>;
          const std::string name(option.name);
          if constexpr (std::is_same_v<Place, OptionChoice>) {
            values[name] = std::string(place.names[*place.value]);
          } else if constexpr (std::is_same_v<Place, std::optional<double>*>) {
            if (*place) values[name] = **place;
          } else if constexpr (std::is_same_v<Place, std::vector<int>*>) {
            values[name] = std::vector<double>(place->begin(), place->end());
          } else if constexpr (std::is_same_v<Place, int*>) {
            values[name] = double(*place);
          } else {
            values[name] = *place;
          }
        },
        option.place);
  }
  return values;
}

/// Calls f(stage) with the stage of this name and these options.
template <class List, class F>
void with_named(std::string_view kind, std::string_view name, const OptionValues& values, F f) {
  check_mechanism(std::string(kind), std::string(name));
  bool found = false;
  const auto look = [&]<class S>(std::type_identity<S>) {
    if constexpr (kByName<S>) {
      if (S::name != name) return;
      S stage;
      set_all(name, options_of(stage), values);
      found = true;
      f(stage);
    }
  };
  [&]<class... S>(std::type_identity<std::tuple<S...>>) {
    (look(std::type_identity<S>{}), ...);
  }(std::type_identity<List>{});
  if (!found)
    fail("mechanisms", fmt::format("a {} that a name and options are enough for", kind), "got " + std::string(name));
}

template <class Any, class List>
Any named(const char* kind, std::string_view name, const OptionValues& values, const AttendShape& shape) {
  Any found;
  with_named<List>(kind, name, values, [&](auto& stage) {
    if constexpr (requires { stage.fit(shape); }) stage.fit(shape);
    found = std::move(stage);
  });
  return found;
}

}  // namespace

std::vector<Mechanism> mechanisms() {
  std::vector<Mechanism> all;
  add<AllPositions>(all, "position");
  add<AllScores>(all, "score");
  add<AllBiases>(all, "bias");
  all.push_back({.kind = "bias",  // a type per lambda, so it stands in no list
                 .name = "pointwise",
                 .gradients = "logits, its learned numbers",
                 .cost = "the lambda, and in a backward pass its dual",
                 .source = "a lambda of your own",
                 .by_name = false});
  add<AllMasks>(all, "mask");
  add<AllNormalizers>(all, "normalizer");
  all.push_back({.kind = "normalizer",
                 .name = "pointwise_probs",
                 .gradients = "logits",
                 .cost = "2 exp and the lambda a pair; holds 64 numbers a key",
                 .source = "a lambda of your own",
                 .by_name = false});
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

OptionValues complete_options(std::string_view kind, std::string_view name, const OptionValues& values) {
  OptionValues complete;
  const auto read = [&](auto& stage) { complete = values_of(options_of(stage)); };
  if (kind == "position")
    with_named<AllPositions>(kind, name, values, read);
  else if (kind == "score")
    with_named<AllScores>(kind, name, values, read);
  else if (kind == "bias")
    with_named<AllBiases>(kind, name, values, read);
  else if (kind == "mask")
    with_named<AllMasks>(kind, name, values, read);
  else if (kind == "normalizer")
    with_named<AllNormalizers>(kind, name, values, read);
  else
    check_mechanism(std::string(kind), std::string(name));
  return complete;
}

AnyPosition position_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return named<AnyPosition, AllPositions>("position", name, values, shape);
}
AnyScore score_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return named<AnyScore, AllScores>("score", name, values, shape);
}
AnyBias bias_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return named<AnyBias, AllBiases>("bias", name, values, shape);
}
AnyMask mask_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return named<AnyMask, AllMasks>("mask", name, values, shape);
}
AnyNormalizer normalizer_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return named<AnyNormalizer, AllNormalizers>("normalizer", name, values, shape);
}

}  // namespace attune

#include "attune/attention/mechanisms.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <tuple>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"

namespace attune {

std::span<const std::string_view> option_names(Per) {
  static constexpr std::array<std::string_view, 5> names = {"call", "batch", "head", "kv_head", "batch_head"};
  return names;
}

void StageOptions::add(const StageOption& option) { options.push_back(option); }

namespace {

/// A stage with its type forgotten: all that tables and names ask of it. Each type costs these few functions, so that
/// the code which asks is compiled once.
struct Nameable {
  virtual ~Nameable() = default;
  virtual std::vector<StageOption> options() = 0;
  virtual void fit(const AttendShape& shape) = 0;
  virtual void learn() = 0;  // a parameter that is learned if wanted: wanted
  virtual std::vector<ParameterSpec> parameters(const AttendShape& shape) = 0;
  virtual void wrap(void* any) = 0;  // into the Any of its kind
};

template <class S, class Any>
struct NameableOf final : Nameable {
  S stage;
  std::vector<StageOption> options() override {
    StageOptions visit;
    if constexpr (requires { stage.options(visit); }) stage.options(visit);
    return std::move(visit.options);
  }
  void fit(const AttendShape& shape) override {
    if constexpr (requires { stage.fit(shape); }) stage.fit(shape);
  }
  void learn() override {
    if constexpr (requires { stage.learned; }) stage.learned = true;
  }
  std::vector<ParameterSpec> parameters(const AttendShape& shape) override {
    if constexpr (requires { stage.parameters(shape); })
      return stage.parameters(shape);
    else
      return {};
  }
  void wrap(void* any) override { *static_cast<Any*>(any) = std::move(stage); }
};

struct Entry {
  std::string_view kind, name, source, cost;
  bool by_name;
  std::unique_ptr<Nameable> (*make)();
};

/// Whether name and options make the stage. One that wants data says `by_name = false`.
template <class S>
constexpr bool is_by_name() {
  if constexpr (requires { S::by_name; })
    return S::by_name;
  else
    return true;
}

template <class Any, class... S>
void add(std::vector<Entry>& all, std::string_view kind, std::type_identity<std::tuple<S...>>) {
  (all.push_back({kind, S::name, S::source, S::cost, is_by_name<S>(),
                  []() -> std::unique_ptr<Nameable> { return std::make_unique<NameableOf<S, Any>>(); }}),
   ...);
}

/// Every type that stands in a list, in the order of the tables.
const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = [] {
    std::vector<Entry> list;
    add<AnyPosition>(list, "position", std::type_identity<AllPositions>{});
    add<AnyScore>(list, "score", std::type_identity<AllScores>{});
    add<AnyBias>(list, "bias", std::type_identity<AllBiases>{});
    add<AnyMask>(list, "mask", std::type_identity<AllMasks>{});
    add<AnyNormalizer>(list, "normalizer", std::type_identity<AllNormalizers>{});
    return list;
  }();
  return all;
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

Mechanism mechanism_of(const Entry& entry) {
  const std::unique_ptr<Nameable> stage = entry.make();
  Mechanism m{.kind = std::string(entry.kind), .name = std::string(entry.name), .by_name = entry.by_name};
  for (const StageOption& o : stage->options()) m.options.push_back({std::string(o.name), text_of(o)});
  const AttendShape shape{1, 1, 1, 1, 1, 1, 1, 1};
  stage->learn();
  stage->fit(shape);
  for (const ParameterSpec& p : stage->parameters(shape)) m.parameters.push_back(p.name);
  m.source = std::string(entry.source);
  m.cost = std::string(entry.cost);
  m.gradients = m.kind == "mask"                            ? "none: sees indices only"
                : m.kind == "score" || m.kind == "position" ? "query, key"
                                                            : "logits";
  for (const std::string& p : m.parameters) m.gradients += ", " + p;
  return m;
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

/// The stage of this name, with these options.
std::unique_ptr<Nameable> named(std::string_view kind, std::string_view name, const OptionValues& values) {
  for (const Entry& entry : entries()) {
    if (!entry.by_name || entry.kind != kind || entry.name != name) continue;
    std::unique_ptr<Nameable> stage = entry.make();
    set_all(name, stage->options(), values);
    return stage;
  }
  check_mechanism(std::string(kind), std::string(name));
  fail("mechanisms", fmt::format("a {} that a name and options are enough for", kind), "got " + std::string(name));
}

template <class Any>
Any wrapped(std::string_view kind, std::string_view name, const OptionValues& values, const AttendShape& shape) {
  const std::unique_ptr<Nameable> stage = named(kind, name, values);
  stage->fit(shape);
  Any any;
  stage->wrap(&any);
  return any;
}

}  // namespace

std::vector<Mechanism> mechanisms() {
  std::vector<Mechanism> all;
  // A type per lambda stands in no list.
  const auto own = [](const char* kind, const char* name, const char* gradients, const char* cost) {
    return Mechanism{.kind = kind,
                     .name = name,
                     .gradients = gradients,
                     .cost = cost,
                     .source = "a lambda of your own",
                     .by_name = false};
  };
  for (const Entry& entry : entries()) {
    if (entry.kind == "mask" && all.back().kind == "bias") {
      all.push_back(
          own("bias", "pointwise", "logits, its learned numbers", "the lambda, and in a backward pass its dual"));
    }
    all.push_back(mechanism_of(entry));
  }
  all.push_back(own("normalizer", "pointwise_probs", "logits", "2 exp and the lambda a pair; holds 64 numbers a key"));
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
  return values_of(named(kind, name, values)->options());
}

AnyPosition position_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return wrapped<AnyPosition>("position", name, values, shape);
}
AnyScore score_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return wrapped<AnyScore>("score", name, values, shape);
}
AnyBias bias_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return wrapped<AnyBias>("bias", name, values, shape);
}
AnyMask mask_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return wrapped<AnyMask>("mask", name, values, shape);
}
AnyNormalizer normalizer_named(std::string_view name, const OptionValues& values, const AttendShape& shape) {
  return wrapped<AnyNormalizer>("normalizer", name, values, shape);
}

}  // namespace attune

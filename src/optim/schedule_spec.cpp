// Specs as JSON, lengths with units, and the default length of a warm-up.
#include "attune/optim/schedule_spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "attune/base/error.hpp"
#include "attune/optim/schedule.hpp"
#include "optim/schedule_lengths.hpp"

namespace attune::optim {
namespace {

using ScheduleJson = nlohmann::ordered_json;
using LengthList = std::vector<std::variant<double, std::string>>;

ScheduleJson to_json(const ScheduleSpec& spec) {
  ScheduleJson j{{"kind", spec.kind}};
  for (const auto& [field, value] : spec.fields) {
    std::visit(
        [&, &field = field](const auto& x) {
          using T = std::remove_cvref_t<decltype(x)>;
          if constexpr (std::is_same_v<T, LengthList>) {
            ScheduleJson& list = j[field] = ScheduleJson::array();
            for (const auto& item : x) std::visit([&](const auto& v) { list.push_back(v); }, item);
          } else if constexpr (std::is_same_v<T, std::vector<ScheduleSpec>>) {
            ScheduleJson& list = j[field] = ScheduleJson::array();
            for (const ScheduleSpec& s : x) list.push_back(to_json(s));
          } else if constexpr (std::is_same_v<T, ScheduleGroups>) {
            ScheduleJson& groups = j[field] = ScheduleJson::object();
            for (const auto& [group, s] : x) groups[group] = to_json(s);
          } else {
            j[field] = x;
          }
        },
        value);
  }
  return j;
}

ScheduleSpec from_json_value(const ScheduleJson& j);

ScheduleValue json_value(const std::string& field, const ScheduleJson& j) {
  if (j.is_number()) return j.get<double>();
  if (j.is_string()) return j.get<std::string>();
  if (j.is_boolean()) return j.get<bool>();
  if (j.is_object()) {
    ScheduleGroups groups;
    for (const auto& [group, s] : j.items()) groups.push_back({group, from_json_value(s)});
    return groups;
  }
  const auto all = [&](auto&& holds) { return std::all_of(j.begin(), j.end(), holds); };
  if (j.is_array() && all([](const ScheduleJson& x) { return x.is_number() || x.is_string(); })) {
    LengthList list;
    for (const ScheduleJson& x : j) {
      if (x.is_number()) {
        list.emplace_back(x.get<double>());
      } else {
        list.emplace_back(x.get<std::string>());
      }
    }
    return list;
  }
  if (j.is_array() && all([](const ScheduleJson& x) { return x.is_object(); })) {
    std::vector<ScheduleSpec> specs;
    for (const ScheduleJson& x : j) specs.push_back(from_json_value(x));
    return specs;
  }
  fail("Schedule::from_json", fmt::format("a number, a text, or a list of either or of schedules for \"{}\"", field),
       fmt::format("got {}", j.dump()));
}

ScheduleSpec from_json_value(const ScheduleJson& j) {
  if (!j.is_object() || !j.contains("kind") || !j["kind"].is_string()) {
    fail("Schedule::from_json", "a JSON object with a \"kind\"", fmt::format("got {}", j.dump()));
  }
  ScheduleSpec spec{j["kind"].get<std::string>(), {}};
  for (const auto& [field, value] : j.items()) {
    if (field != "kind") spec.fields.emplace_back(field, json_value(field, value));
  }
  return spec;
}

/// A number and what it counts.
struct Quantity {
  double number;
  std::string_view unit;  // "%", "step", "epoch", "token", also with an s
};

Quantity quantity_of(std::string_view kind, std::string_view field, std::string_view text) {
  Quantity q{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), q.number);
  std::string_view unit = text.substr(std::size_t(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  q.unit = unit;
  if (unit.size() > 1 && unit.ends_with('s')) q.unit.remove_suffix(1);
  const bool known = q.unit == "%" || q.unit == "step" || q.unit == "epoch" || q.unit == "token";
  const bool fits = q.number >= 0 && q.number < (q.unit == "%" ? 100 : 9e15);
  if (error != std::errc() || !known || !fits) {
    fail(fmt::format("schedule {}", kind),
         fmt::format("`{}`, a number, or a text such as \"2 epochs\", \"5e6 tokens\", \"300 steps\", \"10 %\"", field),
         fmt::format("got \"{}\"", text));
  }
  return q;
}

double steps_in(std::string_view kind, std::string_view field, const std::string& text, const StepUnits& units) {
  const Quantity q = quantity_of(kind, field, text);
  if (q.unit == "%") return q.number / 100;
  double steps = q.number;
  if (q.unit != "step") {
    const bool epochs = q.unit == "epoch";
    const double one = epochs ? units.steps_per_epoch : units.tokens_per_step;
    if (!(std::isfinite(one) && one > 0)) {
      fail(fmt::format("schedule {}", kind),
           fmt::format("`{}` in steps or as a share where {} is not known", field,
                       epochs ? "the length of an epoch" : "the number of tokens of a step"),
           fmt::format("got \"{}\"", text));
    }
    steps = epochs ? q.number * one : q.number / one;
  }
  return steps > 0 ? std::max(1.0, std::round(steps)) : 0;
}

}  // namespace

namespace detail {

bool is_length(const schedule::Field& field) {
  return std::visit(
      [](const auto& place) {
        using T = std::remove_cvref_t<decltype(place)>;
        return std::is_same_v<T, schedule::Length<double>> || std::is_same_v<T, schedule::Length<std::int64_t>> ||
               std::is_same_v<T, schedule::Length<std::vector<double>>>;
      },
      field.place);
}

bool has_unit(const ScheduleValue& value) {
  const auto is_text = [](const auto& x) { return std::holds_alternative<std::string>(x); };
  if (const auto* list = std::get_if<LengthList>(&value)) return std::any_of(list->begin(), list->end(), is_text);
  return is_text(value);
}

bool depends_on_data(std::string_view kind, std::string_view field, const ScheduleValue& value) {
  const auto depends = [&](const auto& x) {
    const auto* text = std::get_if<std::string>(&x);
    if (!text) return false;
    const std::string_view unit = quantity_of(kind, field, *text).unit;
    return unit == "epoch" || unit == "token";
  };
  if (const auto* list = std::get_if<LengthList>(&value)) return std::any_of(list->begin(), list->end(), depends);
  return depends(value);
}

void convert_units(std::string_view kind, std::string_view field, ScheduleValue& value, const StepUnits& units) {
  if (const auto* text = std::get_if<std::string>(&value)) value = steps_in(kind, field, *text, units);
  if (auto* list = std::get_if<LengthList>(&value)) {
    for (auto& x : *list) {
      if (const auto* text = std::get_if<std::string>(&x)) x = steps_in(kind, field, *text, units);
    }
  }
}

}  // namespace detail

std::string json_of(const ScheduleSpec& spec) { return to_json(spec).dump(); }

ScheduleSpec spec_from_json(std::string_view text) {
  const ScheduleJson j = ScheduleJson::parse(text, nullptr, false);
  if (j.is_discarded()) fail("Schedule::from_json", "a JSON object with a \"kind\"", fmt::format("got {}", text));
  return from_json_value(j);
}

std::int64_t default_warmup(std::int64_t total, double beta2) {
  if (total < 1) fail("default_warmup", "a total of 1 step or more", fmt::format("got {}", total));
  if (!(beta2 >= 0 && beta2 < 1)) fail("default_warmup", "`beta2` of 0 or more, below 1", fmt::format("got {}", beta2));
  // 1 - beta2 is inexact: 20.000000000000004 means 20.
  const double settled = std::ceil(2 / (1 - beta2) * (1 - 1e-12));
  const double longest = std::floor(0.1 * double(total) * (1 + 1e-12));
  return std::int64_t(std::min(std::max(settled, std::ceil(0.01 * double(total) * (1 - 1e-12))), longest));
}

}  // namespace attune::optim

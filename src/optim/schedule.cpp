// Schedule as a value and as words: the fields of every schedule are read, checked and written by name, here and
// nowhere else.
#include "attune/optim/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"
#include "optim/schedule_lengths.hpp"

namespace attune::optim {
namespace {

using schedule::Choice;
using schedule::Field;
using schedule::FieldVisitor;
using schedule::Length;
using List = std::vector<std::variant<double, std::string>>;
using Specs = std::vector<ScheduleSpec>;

std::string shown(const ScheduleValue& value) {
  return std::visit(
      [](const auto& x) -> std::string {
        using T = std::remove_cvref_t<decltype(x)>;
        if constexpr (std::is_same_v<T, std::string>) return fmt::format("\"{}\"", x);
        if constexpr (std::is_same_v<T, double> || std::is_same_v<T, bool>) return fmt::format("{}", x);
        if constexpr (std::is_same_v<T, List>) return fmt::format("a list of {}", x.size());
        if constexpr (std::is_same_v<T, Specs>) return fmt::format("a list of {} schedules", x.size());
        if constexpr (std::is_same_v<T, ScheduleGroups>) return fmt::format("{} groups", x.size());
      },
      value);
}

[[noreturn]] void bad_field(std::string_view kind, std::string_view field, std::string_view needs,
                            const ScheduleValue& got) {
  fail(fmt::format("schedule {}", kind), fmt::format("`{}`, {}", field, needs), "got " + shown(got));
}

/// Puts a value into the field that it belongs to.
struct Setter {
  std::string_view kind, name;
  const ScheduleValue& value;

  double number(const ScheduleValue& x) const {
    if (!std::holds_alternative<double>(x)) bad_field(kind, name, "a number", x);
    return std::get<double>(x);
  }
  void operator()(double* to) const { *to = number(value); }
  void operator()(std::int64_t* to) const {
    const double x = number(value);
    // Whole numbers up to 2^53 are exact in double, and the only ones that a number of steps could need.
    if (!(std::abs(x) < 9007199254740992.0) || x != std::floor(x)) bad_field(kind, name, "a whole number", value);
    *to = std::int64_t(x);
  }
  void operator()(bool* to) const {
    if (!std::holds_alternative<bool>(value)) bad_field(kind, name, "true or false", value);
    *to = std::get<bool>(value);
  }
  void operator()(std::vector<double>* to) const {
    if (!std::holds_alternative<List>(value)) bad_field(kind, name, "a list of numbers", value);
    to->clear();
    for (const auto& x : std::get<List>(value)) {
      if (!std::holds_alternative<double>(x)) bad_field(kind, name, "a list of numbers", std::get<std::string>(x));
      to->push_back(std::get<double>(x));
    }
  }
  template <class T>
  void operator()(Length<T> to) const {
    (*this)(to.value);
  }
  void operator()(const Choice& to) const {
    if (const auto* text = std::get_if<std::string>(&value)) {
      const auto found = std::find(to.names.begin(), to.names.end(), *text);
      if (found != to.names.end()) {
        *to.value = std::uint8_t(found - to.names.begin());
        return;
      }
    }
    bad_field(kind, name, fmt::format("one of {}", fmt::join(to.names, ", ")), value);
  }
  void operator()(std::vector<Schedule>* to) const {
    if (!std::holds_alternative<Specs>(value)) bad_field(kind, name, "a list of schedules", value);
    to->clear();
    for (const ScheduleSpec& spec : std::get<Specs>(value)) to->push_back(Schedule::from_spec(spec));
  }
  void operator()(schedule::Groups* to) const {
    if (!std::holds_alternative<ScheduleGroups>(value)) bad_field(kind, name, "schedules by their groups", value);
    to->clear();
    for (const auto& [group, spec] : std::get<ScheduleGroups>(value)) {
      to->emplace_back(group, Schedule::from_spec(spec));
    }
  }
};

ScheduleValue value_of(const Field& field) {
  return std::visit(
      [](const auto& from) -> ScheduleValue {
        using T = std::remove_cvref_t<decltype(from)>;
        if constexpr (std::is_same_v<T, Choice>) {
          return std::string(from.names[*from.value]);
        } else if constexpr (std::is_same_v<T, std::vector<Schedule>*>) {
          Specs specs;
          for (const Schedule& s : *from) specs.push_back(s.spec());
          return specs;
        } else if constexpr (std::is_same_v<T, schedule::Groups*>) {
          ScheduleGroups groups;
          for (const auto& [group, s] : *from) groups.push_back({group, s.spec()});
          return groups;
        } else {
          const auto& x = [&]() -> const auto& {
            if constexpr (std::is_pointer_v<T>) {
              return *from;
            } else {
              return *from.value;
            }
          }
          ();
          using X = std::remove_cvref_t<decltype(x)>;
          if constexpr (std::is_same_v<X, bool>) {
            return x;
          } else if constexpr (std::is_same_v<X, std::vector<double>>) {
            return List(x.begin(), x.end());
          } else {
            return double(x);
          }
        }
      },
      field.place);
}

/// What a kind of schedule is made by.
struct Kind {
  std::string_view name;
  void (*visit_default)(const std::function<void(FieldVisitor&)>&);
  Schedule (*make)(const std::function<void(FieldVisitor&)>& fill);
};

template <class S>
constexpr Kind kind_of() {
  return {S::name,
          [](const std::function<void(FieldVisitor&)>& look) {
            S s;
            FieldVisitor visitor;
            s.fields(visitor);
            look(visitor);
          },
          [](const std::function<void(FieldVisitor&)>& fill) -> Schedule {
            S s;
            FieldVisitor visitor;
            s.fields(visitor);
            fill(visitor);
            return Schedule(std::move(s));
          }};
}

template <class... S>
constexpr std::array<Kind, sizeof...(S)> kinds_of(std::type_identity<std::tuple<S...>>) {
  return {kind_of<S>()...};
}
constexpr auto kKinds = kinds_of(std::type_identity<AllSchedules>{});

const Kind& kind_named(std::string_view function, std::string_view name) {
  for (const Kind& kind : kKinds) {
    if (kind.name == name) return kind;
  }
  const std::vector<std::string> known = schedule_kinds();
  fail(function, fmt::format("a schedule of {}", fmt::join(known, ", ")),
       fmt::format("got `{}`; the nearest is `{}`", name, nearest(name, known)));
}

Field& field_named(std::string_view kind, std::string_view name, FieldVisitor& visitor) {
  for (Field& field : visitor.fields) {
    if (field.name == name) return field;
  }
  std::vector<std::string> known;
  for (const Field& field : visitor.fields) known.emplace_back(field.name);
  fail(fmt::format("schedule {}", kind), fmt::format("a field of {}", fmt::join(known, ", ")),
       fmt::format("got `{}`; the nearest is `{}`", name, nearest(name, known)));
}

/// Schedules inside that have no total get it from above: in a sequential the length of their part, else all of it.
ScheduleSpec with_totals(ScheduleSpec spec) {
  double total = 0;
  bool parts = spec.kind == schedule::Sequential::name;
  std::vector<double> starts{0};
  for (const auto& [name, value] : spec.fields) {
    if (name == "total" && std::holds_alternative<double>(value)) total = std::get<double>(value);
    if (name == "restart" && std::holds_alternative<bool>(value)) parts = parts && std::get<bool>(value);
  }
  for (const auto& [name, value] : spec.fields) {
    if (name != "milestones" || !std::holds_alternative<List>(value)) continue;
    for (const auto& x : std::get<List>(value)) {
      const double* m = std::get_if<double>(&x);
      starts.push_back(m && *m >= 0 && *m < 9e15 ? double(schedule::steps_of(*m, std::int64_t(total))) : total);
    }
  }
  const auto give = [](ScheduleSpec& child, double steps) {
    for (const auto& [name, value] : child.fields) {
      if (name == "total" && value != ScheduleValue(0.0)) return;
    }
    if (steps >= 1) child.fields.emplace_back("total", steps);
  };
  for (auto& [name, value] : spec.fields) {
    if (auto* specs = std::get_if<Specs>(&value)) {
      for (std::size_t i = 0; i < specs->size(); ++i) {
        if (!parts) {
          give((*specs)[i], total);
        } else if (i + 1 < starts.size()) {
          give((*specs)[i], std::max(1.0, starts[i + 1] - starts[i]));
        } else if (total > 0 && i < starts.size()) {
          give((*specs)[i], std::max(1.0, total - starts[i]));
        }
      }
    } else if (auto* groups = std::get_if<ScheduleGroups>(&value)) {
      for (auto& group : *groups) give(group.spec, total);
    }
  }
  return spec;
}

}  // namespace

struct Schedule::Function final : Schedule::Formula {
  explicit Function(std::function<double(std::int64_t)> f) : function(std::move(f)) {}
  double factor(std::int64_t t) const override { return function(t); }
  std::optional<double> momentum(std::int64_t) const override { return std::nullopt; }
  std::function<double(std::int64_t)> function;
};

Schedule::Schedule() : Schedule(schedule::Constant{}) {}

Schedule Schedule::from_function(std::function<double(std::int64_t)> factor) {
  if (!factor) fail("Schedule::from_function", "a function", "got none");
  Schedule s;
  s.kind_ = "function";
  s.spec_ = nullptr;
  s.formula_ = std::make_shared<const Function>(std::move(factor));
  return s;
}

double Schedule::factor(std::int64_t t) const {
  if (t < 0) fail("Schedule::factor", "a step of 0 or more", fmt::format("got {}", t));
  return formula_->factor(t);
}

std::optional<double> Schedule::momentum(std::int64_t t) const {
  if (t < 0) fail("Schedule::momentum", "a step of 0 or more", fmt::format("got {}", t));
  return formula_->momentum(t);
}

const schedule::PerGroup* Schedule::per_group() const {
  const auto* of = dynamic_cast<const Of<schedule::PerGroup>*>(formula_.get());
  return of ? &of->formula : nullptr;
}

std::vector<std::string> Schedule::groups() const {
  std::vector<std::string> names;
  if (const schedule::PerGroup* p = per_group()) {
    for (const auto& group : p->groups) {
      if (group.first != schedule::PerGroup::kOtherwise) names.push_back(group.first);
    }
  }
  return names;
}

Schedule Schedule::for_group(std::string_view group) const {
  const schedule::PerGroup* p = per_group();
  return p ? p->of(group) : *this;
}

void Schedule::check_groups(const std::vector<std::string>& known) const {
  for (const std::string& group : groups()) {
    if (std::find(known.begin(), known.end(), group) != known.end()) continue;
    fail("schedule per_group", fmt::format("a group of {}", fmt::join(known, ", ")),
         known.empty() ? fmt::format("got `{}`", group)
                       : fmt::format("got `{}`; the nearest is `{}`", group, nearest(group, known)));
  }
}

std::optional<schedule::PlateauOptions> Schedule::listener() const {
  if (const auto* of = dynamic_cast<const Of<schedule::ReduceOnPlateau>*>(formula_.get()))
    return of->formula.listener();
  if (const auto* of = dynamic_cast<const Of<schedule::Chained>*>(formula_.get())) {
    for (const Schedule& s : of->formula.schedules) {
      if (const auto found = s.listener()) return found;
    }
  }
  return std::nullopt;
}

std::shared_ptr<const ScheduleSpec> Schedule::spec_of(const std::string& kind, const FieldVisitor& visitor) {
  auto spec = std::make_shared<ScheduleSpec>(ScheduleSpec{kind, {}});
  for (const Field& field : visitor.fields) {
    bool written = true;  // whether all schedules inside are
    if (auto* const* list = std::get_if<std::vector<Schedule>*>(&field.place)) {
      for (const Schedule& s : **list) written = written && s.has_spec();
    } else if (auto* const* groups = std::get_if<schedule::Groups*>(&field.place)) {
      for (const auto& group : **groups) written = written && group.second.has_spec();
    }
    if (!written) return nullptr;
    spec->fields.emplace_back(std::string(field.name), value_of(field));
  }
  return spec;
}

ScheduleSpec Schedule::spec() const {
  if (!spec_) fail("Schedule::spec", "a schedule that can be written down", "got a function");
  return *spec_;
}

Schedule Schedule::from_spec(const ScheduleSpec& given) {
  const Kind& kind = kind_named("Schedule::from_spec", given.kind);
  const ScheduleSpec spec = with_totals(in_steps(given, {}));
  return kind.make([&](FieldVisitor& visitor) {
    for (const auto& [name, value] : spec.fields) {
      std::visit(Setter{kind.name, name, value}, field_named(kind.name, name, visitor).place);
    }
  });
}

ScheduleSpec complete_spec(const ScheduleSpec& given) {
  const Kind& kind = kind_named("complete_spec", given.kind);
  ScheduleSpec complete{given.kind, {}};
  kind.visit_default([&](FieldVisitor& visitor) {
    std::vector<std::pair<std::string_view, ScheduleValue>> kept;  // what the schedule itself cannot hold yet
    for (const auto& [name, value] : given.fields) {
      Field& field = field_named(kind.name, name, visitor);
      if (const auto* specs = std::get_if<Specs>(&value)) {
        if (!std::holds_alternative<std::vector<Schedule>*>(field.place)) {
          std::visit(Setter{kind.name, name, value}, field.place);
        }
        Specs inside;
        for (const ScheduleSpec& s : *specs) inside.push_back(complete_spec(s));
        kept.emplace_back(name, std::move(inside));
      } else if (const auto* groups = std::get_if<ScheduleGroups>(&value)) {
        if (!std::holds_alternative<schedule::Groups*>(field.place)) {
          std::visit(Setter{kind.name, name, value}, field.place);
        }
        ScheduleGroups inside;
        for (const auto& [group, s] : *groups) inside.push_back({group, complete_spec(s)});
        kept.emplace_back(name, std::move(inside));
      } else if (detail::is_length(field) && detail::has_unit(value)) {
        detail::depends_on_data(kind.name, name, value);  // throws for a text that is no length
        kept.emplace_back(name, value);
      } else {
        std::visit(Setter{kind.name, name, value}, field.place);
        std::erase_if(kept, [&, &name = name](const auto& k) { return k.first == name; });
      }
    }
    for (const Field& field : visitor.fields) {
      ScheduleValue value = value_of(field);
      for (const auto& [name, other] : kept) {
        if (name == field.name) value = other;
      }
      complete.fields.emplace_back(std::string(field.name), std::move(value));
    }
  });
  return complete;
}

ScheduleSpec in_steps(ScheduleSpec spec, const StepUnits& units) {
  kind_named("in_steps", spec.kind).visit_default([&](FieldVisitor& visitor) {
    for (auto& [name, value] : spec.fields) {
      if (auto* specs = std::get_if<Specs>(&value)) {
        for (ScheduleSpec& s : *specs) s = in_steps(std::move(s), units);
      } else if (auto* groups = std::get_if<ScheduleGroups>(&value)) {
        for (auto& group : *groups) group.spec = in_steps(std::move(group.spec), units);
      } else if (detail::is_length(field_named(spec.kind, name, visitor))) {
        detail::convert_units(spec.kind, name, value, units);
      }
    }
  });
  return spec;
}

bool counts_in_data(const ScheduleSpec& spec) {
  bool any = false;
  kind_named("counts_in_data", spec.kind).visit_default([&](FieldVisitor& visitor) {
    for (const auto& [name, value] : spec.fields) {
      if (const auto* specs = std::get_if<Specs>(&value)) {
        for (const ScheduleSpec& s : *specs) any = any || counts_in_data(s);
      } else if (const auto* groups = std::get_if<ScheduleGroups>(&value)) {
        for (const auto& group : *groups) any = any || counts_in_data(group.spec);
      } else {
        const bool length = detail::is_length(field_named(spec.kind, name, visitor));
        any = any || (length && detail::depends_on_data(spec.kind, name, value));
      }
    }
  });
  return any;
}

std::string Schedule::json() const { return json_of(spec()); }

Schedule Schedule::from_json(std::string_view text) { return from_spec(spec_from_json(text)); }

std::vector<std::string> schedule_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

std::vector<std::string> schedule_fields(std::string_view kind) {
  std::vector<std::string> names;
  kind_named("schedule_fields", kind).visit_default([&](FieldVisitor& visitor) {
    for (const Field& field : visitor.fields) names.emplace_back(field.name);
  });
  return names;
}

}  // namespace attune::optim

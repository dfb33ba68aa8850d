// The fields of a schedule by name: what specs, JSON and recipes see of it. A schedule lists them once:
//
//     void fields(FieldVisitor& visit) { visit("warmup", length(warmup)), visit("total", length(total)); }
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace attune::optim {
class Schedule;
}  // namespace attune::optim

namespace attune::optim::schedule {

/// Schedules by the names of parameter groups.
using Groups = std::vector<std::pair<std::string, Schedule>>;

/// A number, or numbers, of steps; a double below 1 is a share of the total. Text may give it in other units.
template <class T>
struct Length {
  T* value;
};
inline Length<double> length(double& steps) { return {&steps}; }
inline Length<std::int64_t> length(std::int64_t& steps) { return {&steps}; }
inline Length<std::vector<double>> length(std::vector<double>& steps) { return {&steps}; }

/// An enumerator, by its number and the names of all.
struct Choice {
  std::uint8_t* value;
  std::span<const std::string_view> names;
};

/// One member of a schedule, to be read and written.
struct Field {
  std::string_view name;
  std::variant<double*, std::int64_t*, bool*, std::vector<double>*, Length<double>, Length<std::int64_t>,
               Length<std::vector<double>>, Choice, std::vector<Schedule>*, Groups*>
      place;
};

/// Collects the fields of one schedule. An enumeration (of std::uint8_t, from 0 on) needs choices_of(E), which gives
/// the names of its enumerators.
class FieldVisitor {
 public:
  template <class T>
  void operator()(std::string_view name, Length<T> x) {
    fields.push_back({name, x});
  }
  template <class T>
  void operator()(std::string_view name, T& x) {
    if constexpr (std::is_enum_v<T>) {
      static_assert(sizeof(T) == 1);
      fields.push_back({name, Choice{reinterpret_cast<std::uint8_t*>(&x), choices_of(x)}});
    } else {
      fields.push_back({name, &x});
    }
  }

  std::vector<Field> fields;
};

}  // namespace attune::optim::schedule

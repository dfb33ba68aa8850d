// The options of a stage by name: what recipes, the command line and tables see of it. A stage with options lists them
// once, and may fill in what follows from the call's extents when it is chosen by its name alone:
//
//     void options(StageOptions& visit) { visit("left", left), visit("right", right); }
//     void fit(const AttendShape& shape) { hidden_dim = hidden_dim ? hidden_dim : shape.key_dim; }
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace attune {

/// An enumerator (of std::uint8_t, from 0 on), by its place and the names of all.
struct OptionChoice {
  std::uint8_t* value;
  std::span<const std::string_view> names;
};
/// One member of a stage, to be read and written.
struct StageOption {
  std::string_view name;
  std::variant<bool*, int*, double*, std::optional<double>*, std::vector<int>*, std::vector<double>*, OptionChoice>
      place;
};

/// Collects the options of one stage. An enumeration needs option_names(E), which gives the names of its enumerators.
class StageOptions {
 public:
  template <class T>
  void operator()(std::string_view name, T& x) {
    if constexpr (std::is_enum_v<T>) {
      static_assert(sizeof(T) == 1);
      add({name, OptionChoice{reinterpret_cast<std::uint8_t*>(&x), option_names(x)}});
    } else {
      add({name, &x});
    }
  }

  std::vector<StageOption> options;

 private:
  void add(const StageOption& option);  // not inline: every option of every stage calls it
};

}  // namespace attune

// The names of roles.
#include "attune/autograd/roles.hpp"

#include <algorithm>
#include <array>

#include "attune/base/error.hpp"
#include "attune/base/nearest.hpp"

namespace attune {
namespace {

constexpr std::array<std::string_view, 11> kRoleNames{"other",  "embedding", "position", "query", "key", "value",
                                                      "output", "mlp",       "norm",     "head",  "gain"};

}  // namespace

std::string_view name_of(Role role) { return kRoleNames.at(std::size_t(role)); }

std::vector<std::string> role_names() { return {kRoleNames.begin(), kRoleNames.end()}; }

Role role_from_name(std::string_view name) {
  const auto found = std::find(kRoleNames.begin(), kRoleNames.end(), name);
  if (found != kRoleNames.end()) return Role(found - kRoleNames.begin());
  const std::vector<std::string> known = role_names();
  std::string list;
  for (const std::string& k : known) list += (list.empty() ? "" : ", ") + k;
  fail("role_from_name", "one of " + list,
       "got `" + std::string(name) + "`; the nearest is `" + nearest(name, known) + "`");
}

}  // namespace attune

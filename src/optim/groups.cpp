// Factors of the learning rate: what options give to the rows of a model, and what a row's rate is made of.
#include "attune/optim/groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/base/error.hpp"
#include "attune/optim/optimizer.hpp"

namespace attune::optim {

std::vector<ParameterGroup> decay_matrices_only(const std::vector<Tensor>& parameters) {
  std::vector<ParameterGroup> groups(2);
  groups[1].weight_decay = false;
  for (const Tensor& p : parameters) groups[p.rank() >= 2 ? 0 : 1].parameters.push_back(p);
  std::erase_if(groups, [](const ParameterGroup& g) { return g.parameters.empty(); });
  return groups;
}

double product_of(std::span<const RateFactor> factors) {
  double product = 1;
  for (const RateFactor& f : factors) product *= f.value;
  return product;
}

namespace {

/// A matrix that sums over the width: of attention and feed-forward, and gates.
bool sums_over_width(const ParameterRows& r) {
  const bool hidden = r.role == Role::query || r.role == Role::key || r.role == Role::value || r.role == Role::output ||
                      r.role == Role::mlp || r.over_width;
  return hidden && r.tensor.rank() >= 2;
}

void check_options(const GroupOptions& o) {
  const auto check = [](double x, const std::string& what) {
    if (!(std::isfinite(x) && x >= 0)) {
      fail("row_factors", fmt::format("`{}`, finite and 0 or more", what), fmt::format("got {}", x));
    }
  };
  for (const auto& [role, factor] : o.roles) check(factor, std::string(name_of(role)));
  for (const double x : o.layers) check(x, "layers");
  for (const double x : o.query_heads) check(x, "query_heads");
  for (const double x : o.key_heads) check(x, "key_heads");
  check(o.base_width, "base_width");
  if (!(o.layer_decay > 0 && o.layer_decay <= 1)) {
    fail("row_factors", "`layer_decay` above 0 and at most 1", fmt::format("got {}", o.layer_decay));
  }
}

}  // namespace

std::vector<RowFactor> row_factors(const std::vector<ParameterRows>& rows, const GroupOptions& o) {
  check_options(o);
  // last: L + 1; width: of the tokens, which is what query projections read
  std::int64_t last = 0, query_heads = 0, key_heads = 0, width = 0;
  for (const ParameterRows& r : rows) {
    last = std::max(last, r.depth);
    if (r.role == Role::query && r.tensor.rank() >= 2) width = std::max(width, r.tensor.shape()[1]);
    if (r.role == Role::query) query_heads = std::max(query_heads, r.head + 1);
    if (r.role == Role::key) key_heads = std::max(key_heads, r.head + 1);
  }
  const auto fits = [](const std::vector<double>& list, std::int64_t needed, std::string_view what) {
    if (!list.empty() && std::int64_t(list.size()) != needed) {
      fail("row_factors", fmt::format("`{}`, a factor for each of {}", what, needed),
           fmt::format("got {}", list.size()));
    }
  };
  const std::int64_t num_layers = std::max<std::int64_t>(0, last - 1);
  fits(o.layers, num_layers, "layers");
  fits(o.query_heads, query_heads, "query_heads");
  fits(o.key_heads, key_heads, "key_heads");
  if (o.base_width > 0 && width == 0) fail("row_factors", "a query projection for `base_width`", "got none");

  std::vector<RowFactor> factors;
  for (const ParameterRows& r : rows) {
    const auto add = [&](double factor, std::string reason) {
      if (factor != 1) factors.push_back({r.tensor, r.first, r.end, factor, std::move(reason), {}});
    };
    const auto role = o.roles.find(r.role);
    factors.push_back({r.tensor, r.first, r.end, role == o.roles.end() ? 1 : role->second,
                       fmt::format("role {}", name_of(r.role)), std::string(name_of(r.role))});
    add(std::pow(o.layer_decay, double(last - r.depth)), fmt::format("depth {} of {}", r.depth, last));
    const bool in_block = r.depth >= 1 && r.depth <= num_layers;
    if (in_block && !o.layers.empty()) add(o.layers[std::size_t(r.depth - 1)], fmt::format("layer {}", r.depth));
    const bool of_head = r.head >= 0;
    if (of_head && r.role == Role::query && !o.query_heads.empty()) {
      add(o.query_heads[std::size_t(r.head)], fmt::format("query head {}", r.head));
    }
    if (of_head && r.role == Role::key && !o.key_heads.empty()) {
      add(o.key_heads[std::size_t(r.head)], fmt::format("key head {}", r.head));
    }
    // The inputs of every hidden matrix, also the hidden layer of a feed-forward, grow in proportion to the width.
    if (o.base_width > 0 && sums_over_width(r)) add(o.base_width / double(width), "width");
  }
  return factors;
}

std::vector<RateFactor> Optimizer::rate_of(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  const std::int64_t begin = slice.begin, past = slice.begin + slice.count;
  const auto covers = [&](const Scaled& s) {
    if (s.end <= begin || past <= s.begin) return false;
    if (begin < s.begin || s.end < past) {
      fail("Optimizer::rate_of", "rows with all factors in common", fmt::format("rows {} .. {} differ", first, end));
    }
    return true;
  };
  const ParameterGroup& group = groups_[group_of_[i]];
  std::vector<RateFactor> factors, of_rows;
  std::string schedule_group = group.name;
  for (std::size_t k = 0; k < row_factors_.size(); ++k) {
    if (!covers(row_slices_[k])) continue;
    if (!row_factors_[k].group.empty()) schedule_group = row_factors_[k].group;
    if (row_factors_[k].factor != 1) of_rows.push_back({row_factors_[k].reason, row_factors_[k].factor});
  }
  const Asked asked =
      asked_.at >= 0
          ? asked_
          : Asked{
                .at = step_, .base = options_.learning_rate, .plateau = plateau_factor(), .rollback = rate_multiplier_};
  if (asked.given) {
    factors.push_back({"given", asked.base});
  } else {
    factors.push_back({"base", asked.base});
    factors.push_back({"schedule", options_.schedule.for_group(schedule_group).factor(asked.at)});
    if (listens()) factors.push_back({"plateau", asked.plateau});
  }
  factors.push_back({group.name.empty() ? "group" : "group " + group.name, group.learning_rate_factor});
  for (RateFactor& f : of_rows) factors.push_back(std::move(f));
  for (RateFactor& own : own_factors()) factors.push_back(std::move(own));
  RateFactor guard{"guard", 1};
  for (const Scaled& s : guarded_) {
    if (covers(s)) guard.value *= s.factor;
  }
  factors.push_back(guard);
  factors.push_back({"rollback", asked.rollback});
  return factors;
}

}  // namespace attune::optim

// What all optimizers share: the flat buffers, the two halves of a step, slices of an update. The state and the weights
// to evaluate with are in optimizer_state.cpp, what the learning rate consists of in groups.cpp.
#include "attune/optim/optimizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/optim/clip.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {
namespace {

void scale_elements(Tensor& flat, std::int64_t begin, std::int64_t count, double factor) {
  detail::typed("Optimizer", flat.dtype(),
                [&]<class T>(T) { kernels::scale<T>(count, factor, flat.data<T>() + begin); });
}

double norm_at(const Tensor& flat, std::int64_t begin, std::int64_t count) {
  return detail::typed("Optimizer", flat.dtype(), [&]<class T>(T) {
    return std::sqrt(kernels::sum_of_squares<T>(count, flat.data<T>() + begin));
  });
}

}  // namespace

Optimizer::Optimizer(std::vector<ParameterGroup> groups, OptimizerOptions options, Manner manner)
    : options_(std::move(options)), manner_(manner) {
  const auto check = [](double x, std::string_view name) {
    if (!(std::isfinite(x) && x >= 0)) {
      fail("Optimizer", fmt::format("`{}`, a finite number of 0 or more", name), fmt::format("got {}", x));
    }
  };
  check(options_.learning_rate, "learning_rate");
  check(options_.weight_decay, "weight_decay");
  check(options_.clip_norm, "clip_norm");
  check(options_.clip_value, "clip_value");
  check(options_.clip_adaptive, "clip_adaptive");
  check(options_.clip_zscore, "clip_zscore");
  for (ParameterGroup& group : groups) {
    check(group.learning_rate_factor, "learning_rate_factor");
    if (group.parameters.empty()) continue;
    parameters_.insert(parameters_.end(), group.parameters.begin(), group.parameters.end());
    group_of_.resize(parameters_.size(), groups_.size());
    groups_.push_back(std::move(group));
    groups_.back().parameters.clear();
  }
  flat_ = flatten(parameters_);
  update_ = make_array();
  if (const auto listener = options_.schedule.listener()) plateau_.emplace(*listener);
  cut();
}

Tensor Optimizer::make_array() const { return Tensor::zeros(flat_.values.shape(), flat_.values.dtype()); }

/// Neighbours of one group whose rows have equal factors are one segment; padding belongs to the rows before it.
void Optimizer::cut() {
  std::vector<std::vector<std::size_t>> of_parameter(parameters_.size());
  for (std::size_t k = 0; k < row_factors_.size(); ++k) {
    of_parameter[index_of(row_factors_[k].parameter)].push_back(k);
  }
  segments_.clear();
  ranges_.clear();
  group_names_.assign(1, "");
  const bool named = !options_.schedule.groups().empty();
  const auto name_index = [&](const std::string& name) {
    if (!named) return std::size_t(0);
    const auto found = std::find(group_names_.begin(), group_names_.end(), name);
    if (found != group_names_.end()) return std::size_t(found - group_names_.begin());
    group_names_.push_back(name);
    return group_names_.size() - 1;
  };
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::size_t group = group_of_[i];
    const double decay = groups_[group].weight_decay ? options_.weight_decay : 0;
    const std::int64_t first = flat_.offsets[i],
                       end = i + 1 < parameters_.size() ? flat_.offsets[i + 1] : flat_.values.size();
    std::vector<std::int64_t> cuts{first, end};
    for (const std::size_t k : of_parameter[i]) {
      const Scaled& s = row_slices_[k];
      if (s.end > s.begin) cuts.insert(cuts.end(), {s.begin, s.end});
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
      Range piece{.begin = cuts[k],
                  .end = cuts[k + 1],
                  .group = group,
                  .name = name_index(groups_[group].name),
                  .parameter = i,
                  .weight_decay = decay};
      for (const std::size_t f : of_parameter[i]) {
        const Scaled& s = row_slices_[f];
        if (!(s.begin <= piece.begin && piece.end <= s.end)) continue;
        piece.row_factor *= s.factor;
        if (!row_factors_[f].group.empty()) piece.name = name_index(row_factors_[f].group);
      }
      // Padding, which no factor covers, holds zeros: it goes with the rows before it.
      const bool padding = k > 0 && piece.begin == first + parameters_[i].size();
      if (!segments_.empty() && (padding || (segments_.back().group == group && segments_.back().name == piece.name &&
                                             segments_.back().row_factor == piece.row_factor))) {
        segments_.back().end = piece.end;
      } else {
        segments_.push_back(piece);
      }
    }
    if (manner_.by_parameter) {
      ranges_.push_back({.begin = first,
                         .end = first + parameters_[i].size(),
                         .group = group,
                         .name = name_index(groups_[group].name),
                         .parameter = i,
                         .weight_decay = decay});
    }
  }
  if (!manner_.by_parameter) ranges_ = segments_;
}

void Optimizer::set_row_factors(const std::vector<RowFactor>& factors) {
  if (staged_) fail("Optimizer::set_row_factors", "a moment between two steps", "an update is staged");
  std::vector<Scaled> slices;
  for (const RowFactor& f : factors) {
    const Slice slice = rows(index_of(f.parameter), f.first, f.end);
    if (!(std::isfinite(f.factor) && f.factor >= 0)) {
      fail("Optimizer::set_row_factors", "finite factors of 0 or more", fmt::format("got {}", f.factor));
    }
    slices.push_back({slice.begin, slice.begin + slice.count, f.factor});
  }
  row_factors_ = factors;
  row_slices_ = std::move(slices);
  cut();
}

void Optimizer::set_schedule(Schedule schedule) {
  if (staged_) fail("Optimizer::set_schedule", "a moment between two steps", "an update is staged");
  options_.schedule = std::move(schedule);
  plateau_.reset();
  if (const auto listener = options_.schedule.listener()) plateau_.emplace(*listener);
  cut();
}

double Optimizer::observe(double loss) {
  if (staged_) fail("Optimizer::observe", "a moment between two steps", "an update is staged");
  if (!plateau_) fail("Optimizer::observe", "a schedule with a plateau", "got " + options_.schedule.kind());
  return plateau_->observe(loss);
}

void Optimizer::set_rate_multiplier(double factor) {
  if (!(std::isfinite(factor) && factor >= 0)) {
    fail("Optimizer::set_rate_multiplier", "a finite factor of 0 or more", fmt::format("got {}", factor));
  }
  rate_multiplier_ = factor;
}

/// Clips what is stored and returns the factor for what is read; NaN if the gradient is not finite.
double Optimizer::clip() {
  // Clamping would turn an infinite gradient into a finite one: look first.
  double norm = gradient_norm_ = norm_of(flat_.gradients);
  if (!std::isfinite(norm)) return std::numeric_limits<double>::quiet_NaN();
  if (options_.clip_value > 0) clip_by_value(flat_.gradients, options_.clip_value);
  if (options_.clip_adaptive > 0) {
    for (Tensor& p : parameters_) {
      Tensor gradient = p.grad();
      clip_adaptively(p, gradient, options_.clip_adaptive);
    }
  }
  if (options_.clip_value > 0 || options_.clip_adaptive > 0) norm = norm_of(flat_.gradients);
  if (options_.clip_zscore > 0) return zclip_.factor(norm, options_.clip_zscore, options_.clip_norm);
  return options_.clip_norm > 0 ? detail::clip_factor(norm, options_.clip_norm) : 1;
}

bool Optimizer::propose() { return propose(learning_rate(), false); }
bool Optimizer::propose(double learning_rate) { return propose(learning_rate, true); }

double Optimizer::group_rate(std::size_t name) const {
  return options_.learning_rate * options_.schedule.for_group(group_names_[name]).factor(step_) * rate_multiplier_;
}

std::size_t Optimizer::group_name_of(std::size_t group) const {
  if (group_names_.size() == 1) return 0;
  return std::size_t(std::find(group_names_.begin(), group_names_.end(), groups_[group].name) - group_names_.begin());
}

bool Optimizer::propose(double learning_rate, bool given) {
  if (staged_) fail("Optimizer::propose", "apply() between two proposals", "an update is staged already");
  if (evaluating()) fail("Optimizer::propose", "train() after eval()", "the weights are those to evaluate with");
  if (!std::isfinite(learning_rate)) {
    fail("Optimizer::propose", "a finite learning rate", fmt::format("got {} at step {}", learning_rate, step_));
  }
  const double grad_scale = clip();
  if (std::isnan(grad_scale)) {
    ++skipped_;
    return false;
  }
  std::vector<double> rates(group_names_.size(), learning_rate);
  if (!given && !options_.schedule.groups().empty()) {
    options_.schedule.check_groups(group_names_);
    for (std::size_t name = 0; name < rates.size(); ++name) rates[name] = group_rate(name);
  }
  const auto prepare = [&](Range& range) {
    range.learning_rate = rates[range.name] * groups_[range.group].learning_rate_factor * range.row_factor;
    range.grad_scale = grad_scale;
  };
  for (Range& range : segments_) prepare(range);
  for (Range& range : ranges_) prepare(range);
  begin_step(learning_rate);
  for (const Range& range : ranges_) propose_range(range);
  staged_ = true;
  guarded_.clear();
  asked_ = {.at = step_,
            .given = given,
            .base = given ? learning_rate : options_.learning_rate,
            .plateau = given ? 1 : plateau_factor(),
            .rollback = given ? 1 : rate_multiplier_};
  if (manner_.by_parameter) scale_segments(rates);
  return true;
}

/// Parameters were updated as wholes, at the rate of their group: now come the factors and schedules of their rows.
void Optimizer::scale_segments(const std::vector<double>& rates) {
  for (const Range& s : segments_) {
    double factor = s.row_factor;
    if (const double whole = rates[group_name_of(s.group)]; rates[s.name] != whole) {
      if (whole == 0) {
        fail("Optimizer::propose", fmt::format("a rate above 0 of \"otherwise\" with {}", kind()),
             fmt::format("got 0 at step {}", step_));
      }
      factor *= rates[s.name] / whole;
    }
    if (factor != 1) scale_elements(update_, s.begin, s.end - s.begin, factor);
  }
}

void Optimizer::apply() {
  if (!staged_) fail("Optimizer::apply", "propose() before it", "no update is staged");
  for (const Range& r : segments_) apply_range(r, manner_.decoupled_decay ? r.learning_rate * r.weight_decay : 0);
  if (average_) {
    detail::typed("Optimizer::apply", average_.dtype(), [&]<class T>(T) {
      kernels::move_towards<T>(average_.size(), 1 - average_decay(average_options_, step_), flat_.values.data<T>(),
                               average_.data<T>());
    });
  }
  staged_ = false;
  ++step_;
}

void Optimizer::apply_range(const Range& r, double decay) {
  detail::typed("Optimizer::apply", flat_.values.dtype(), [&]<class T>(T) {
    kernels::apply_update<T>(r.end - r.begin, decay, update_.data<T>() + r.begin, flat_.values.data<T>() + r.begin);
  });
}

bool Optimizer::advance() {
  const bool finite = propose();
  if (finite) apply();
  return finite;
}

void Optimizer::zero_grad() { flat_.gradients.fill(0); }

std::size_t Optimizer::index_of(const Tensor& parameter) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].is(parameter)) return i;
  }
  fail("Optimizer::index_of", "one of the parameters", "got another tensor");
}

Optimizer::Slice Optimizer::rows(std::size_t i, std::int64_t first, std::int64_t end) const {
  if (i >= parameters_.size()) {
    fail("Optimizer", fmt::format("a parameter below {}", parameters_.size()), fmt::format("got {}", i));
  }
  const attune::Shape& shape = parameters_[i].shape();
  const std::int64_t count = shape.rank() > 0 ? shape[0] : 1;
  if (first < 0 || end < first || end > count) {
    fail("Optimizer", fmt::format("rows within 0 .. {} of parameter {} {}", count, i, shape.text()),
         fmt::format("got {} .. {}", first, end));
  }
  const std::int64_t width = count > 0 ? shape.size() / count : 0;
  return {flat_.offsets[i] + first * width, (end - first) * width};
}

EpsilonCount Optimizer::epsilon_count(std::size_t i, std::int64_t first, std::int64_t end) const {
  rows(i, first, end);  // whether they are there
  return {};
}

View Optimizer::update(std::size_t i) {
  const Slice slice = rows(i, 0, 0);
  return detail::typed("Optimizer::update", update_.dtype(),
                       [&]<class T>(T) { return View(update_.data<T>() + slice.begin, parameters_[i].shape()); });
}

void Optimizer::scale_update(std::size_t i, std::int64_t first, std::int64_t end, double factor) {
  if (!staged_) fail("Optimizer::scale_update", "propose() before it", "no update is staged");
  if (!std::isfinite(factor)) fail("Optimizer::scale_update", "a finite factor", fmt::format("got {}", factor));
  const Slice slice = rows(i, first, end);
  scale_elements(update_, slice.begin, slice.count, factor);
  guarded_.push_back({slice.begin, slice.begin + slice.count, factor});
}

double Optimizer::update_norm(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  return norm_at(update_, slice.begin, slice.count);
}

double Optimizer::weight_norm(std::size_t i, std::int64_t first, std::int64_t end) const {
  const Slice slice = rows(i, first, end);
  return norm_at(flat_.values, slice.begin, slice.count);
}

}  // namespace attune::optim

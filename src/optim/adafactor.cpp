// Adafactor: two vectors a matrix instead of a second moment of its size.
#include "attune/optim/adafactor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "kernels/update.hpp"
#include "optim/typed.hpp"

namespace attune::optim {

Adafactor::Adafactor(std::vector<ParameterGroup> groups, const AdafactorOptions& o)
    : Optimizer(std::move(groups), detail::shared_options(o), {.decoupled_decay = true, .by_parameter = true}),
      own_(o) {
  if (!(o.beta2_decay < 0 && std::isfinite(o.beta2_decay))) {
    fail("Adafactor", "`beta2_decay` below 0", fmt::format("got {}", o.beta2_decay));
  }
  if (!(o.epsilon >= 0 && o.least_square >= 0)) {
    fail("Adafactor", "`epsilon` and `least_square` of 0 or more",
         fmt::format("got {} and {}", o.epsilon, o.least_square));
  }
  if (!(o.threshold > 0)) fail("Adafactor", "`threshold` above 0", fmt::format("got {}", o.threshold));
  std::int64_t rows = 0, columns = 0, vectors = 0;
  for (const Tensor& p : parameters()) {
    Place place{.row = rows, .column = columns, .vector = vectors};
    if (p.rank() >= 2 && p.size() > 0) {
      place.rows = p.shape()[p.rank() - 2];
      place.columns = p.shape()[p.rank() - 1];
      place.matrices = p.size() / (place.rows * place.columns);
      rows += place.matrices * place.rows;
      columns += place.matrices * place.columns;
    } else {
      vectors += p.size();
    }
    places_.push_back(place);
  }
  const DType dtype = flat_.values.dtype();
  if (rows > 0) row_ = Tensor::zeros({rows}, dtype);
  if (rows > 0) column_ = Tensor::zeros({columns}, dtype);
  if (vectors > 0) vector_ = Tensor::zeros({vectors}, dtype);
}

void Adafactor::propose_range(const Range& r) {
  detail::typed("Adafactor", flat_.values.dtype(), [&]<class T>(T) { propose_parameter<T>(r, places_[r.parameter]); });
}

template <class T>
void Adafactor::propose_parameter(const Range& r, const Place& place) {
  const std::int64_t n = r.end - r.begin;
  const double t = double(step() + 1), fresh = std::pow(t, own_.beta2_decay);
  const double least = own_.least_square > 0 ? own_.least_square : double(std::numeric_limits<T>::epsilon());
  const T* grad = flat_.gradients.data<T>() + r.begin;
  T* update = update_.data<T>() + r.begin;
  std::vector<T> row_means(std::size_t(place.rows)), column_means(std::size_t(place.columns));
  for (std::int64_t k = 0; k < place.matrices; ++k) {
    const std::int64_t offset = k * place.rows * place.columns;
    T *row = row_.data<T>() + place.row + k * place.rows,
      *column = column_.data<T>() + place.column + k * place.columns;
    kernels::mean_squares<T>(place.rows, place.columns, r.grad_scale, grad + offset, row_means.data(),
                             column_means.data());
    kernels::move_towards<T>(place.rows, fresh, row_means.data(), row);
    kernels::move_towards<T>(place.columns, fresh, column_means.data(), column);
    double mean = 0;
    for (std::int64_t i = 0; i < place.rows; ++i) mean += double(row[i]) / double(place.rows);
    mean = std::max(mean, least);
    for (std::int64_t i = 0; i < place.rows; ++i) row_means[std::size_t(i)] = T(double(row[i]) / mean);
    kernels::propose_factored<T>(place.rows, place.columns, r.grad_scale, least * least, grad + offset,
                                 row_means.data(), column, update + offset);
  }
  if (place.matrices == 0) {
    T* square = vector_.data<T>() + place.vector;
    for (std::int64_t i = 0; i < n; ++i) {
      const T g = T(r.grad_scale) * grad[i];
      square[i] += T(fresh) * (g * g - square[i]);
      update[i] = g / std::sqrt(std::max(square[i], T(least * least)));
    }
  }
  const double count = std::sqrt(double(n));
  const double size = std::sqrt(kernels::sum_of_squares<T>(n, update)) / count;
  const double weight = std::sqrt(kernels::sum_of_squares<T>(n, flat_.values.data<T>() + r.begin)) / count;
  const double rate = std::max(own_.epsilon, weight) * std::min(r.learning_rate, 1 / std::sqrt(t));
  kernels::scale<T>(n, rate / std::max(1.0, size / own_.threshold), update);
}

std::vector<std::pair<std::string, Tensor*>> Adafactor::arrays() {
  std::vector<std::pair<std::string, Tensor*>> all;
  if (row_) all = {{"row_means", &row_}, {"column_means", &column_}};
  if (vector_) all.emplace_back("second_moment", &vector_);
  return all;
}

}  // namespace attune::optim

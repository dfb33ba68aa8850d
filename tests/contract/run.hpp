// Runs a Scenario through the engine: by the public calls, or by the tile loops with tiles small enough that a toy
// problem has many of them (the only way for duals, which no view holds).
#pragma once
#include <type_traits>
#include <vector>

#include "attention/call.hpp"
#include "contract/scenario.hpp"

namespace attune::contract {

template <class T>
struct Upstream {
  std::vector<T> dout, dlse, dentropy;  // empty: not given
};
template <class T>
struct Result {
  std::vector<T> out, lse, entropy;  // entropy empty where the normalizer has none
  Arrays<T> gradient;                // as the arrays; empty without an upstream
};

template <class To, class From>
std::vector<To> converted(const std::vector<From>& v) {
  std::vector<To> r;
  r.reserve(v.size());
  for (const From& x : v) r.push_back(To(x));
  return r;
}
template <class To, class From>
Arrays<To> converted(const Arrays<From>& arrays) {
  Arrays<To> r;
  for (const auto& array : arrays) r.push_back(converted<To>(array));
  return r;
}
template <class T>
Upstream<T> upstream_of(const Scenario& s) {
  return {converted<T>(s.dout), converted<T>(s.dlse), converted<T>(s.dentropy)};
}
template <class T>
Arrays<T> zeros_like(const Arrays<T>& in) {
  Arrays<T> r;
  for (const auto& array : in) r.emplace_back(array.size(), T(0));
  return r;
}

/// What a public call sees of the arrays.
template <class T>
struct Views {
  Shape out, row;
  std::vector<Shape> shapes;  // of query, key, value and each parameter
  Views(const AttendShape& s, const AttendOptions& o)
      : out{s.batch_size, s.num_heads, s.num_queries, s.value_dim}, row{s.batch_size, s.num_heads, s.num_queries} {
    shapes = {{s.batch_size, s.num_heads, s.num_queries, s.query_dim},
              {s.batch_size, s.num_kv_heads, s.num_keys, s.key_dim},
              {s.batch_size, s.num_kv_heads, s.num_keys, s.value_dim}};
    for (const AttendParameter& p : attend_parameters(o, s)) shapes.push_back(p.shape);
  }
  AttendInputs inputs(const Arrays<T>& in) const {
    AttendInputs r{
        ConstView(in[0].data(), shapes[0]), ConstView(in[1].data(), shapes[1]), ConstView(in[2].data(), shapes[2]), {}};
    for (std::size_t n = 3; n < in.size(); ++n) r.parameters.emplace_back(in[n].data(), shapes[n]);
    return r;
  }
  AttendGradients gradients(Arrays<T>& g) const {
    AttendGradients r{View(g[0].data(), shapes[0]), View(g[1].data(), shapes[1]), View(g[2].data(), shapes[2]), {}};
    for (std::size_t n = 3; n < g.size(); ++n) r.parameters.emplace_back(g[n].data(), shapes[n]);
    return r;
  }
  View rows(std::vector<T>& v) const { return v.empty() ? View() : View(v.data(), row); }
  ConstView rows(const std::vector<T>& v) const { return v.empty() ? ConstView() : ConstView(v.data(), row); }
};

struct RunOptions {
  bool entropy = true;  // ask for it where the normalizer has one
  Statistics* statistics = nullptr;
};

/// attend_forward and, with an upstream, attend_backward.
template <class T>
Result<T> run_public(const AttendShape& shape, const AttendOptions& options, const Arrays<T>& in,
                     const Upstream<T>* up = nullptr, const RunOptions& how = {}) {
  const Views<T> views(shape, options);
  const std::size_t rows = std::size_t(views.row.size());
  Result<T> r;
  // Starts as rubbish: everything must be written.
  r.out.assign(std::size_t(views.out.size()), T(777));
  r.lse.assign(rows, T(777));
  const bool entropy = options.normalizer.on<double>()->gives_lse() && (how.entropy || (up && !up->dentropy.empty()));
  if (entropy) r.entropy.assign(rows, T(777));
  attend_forward(views.inputs(in),
                 {.out = View(r.out.data(), views.out),
                  .lse = views.rows(r.lse),
                  .entropy = views.rows(r.entropy),
                  .statistics = how.statistics},
                 options);
  if (!up) return r;
  r.gradient = zeros_like(in);
  attend_backward(views.inputs(in),
                  {.out = ConstView(r.out.data(), views.out),
                   .lse = ConstView(r.lse.data(), views.row),
                   .entropy = up->dentropy.empty() ? ConstView() : ConstView(r.entropy.data(), views.row),
                   .dout = ConstView(up->dout.data(), views.out),
                   .dlse = views.rows(up->dlse),
                   .dentropy = views.rows(up->dentropy)},
                  views.gradients(r.gradient), options);
  return r;
}
template <class T>
Result<T> run_public(const Scenario& s, const Arrays<T>& in, const Upstream<T>* up = nullptr,
                     const RunOptions& how = {}) {
  return run_public(s.shape, s.options, in, up, how);
}

/// The tile loops themselves, over any scalar, with tiles of tile_queries x tile_keys.
template <class T>
Result<T> run_tiles(const Scenario& s, const Arrays<T>& in, const Upstream<T>* up = nullptr, int tile_queries = 4,
                    int tile_keys = 3) {
  const AttendShape& a = s.shape;
  engine::Problem<T> p = engine::make_problem<T>(a, s.options);
  p.tile_queries = tile_queries;
  p.tile_keys = tile_keys;
  auto strided = [](auto* data, int heads, int rows, int cols) {
    return engine::Strided<std::remove_pointer_t<decltype(data)>>{data, std::ptrdiff_t(heads) * rows * cols,
                                                                  std::ptrdiff_t(rows) * cols, cols};
  };
  p.query = strided(in[0].data(), a.num_heads, a.num_queries, a.query_dim);
  p.key = strided(in[1].data(), a.num_kv_heads, a.num_keys, a.key_dim);
  p.value = strided(in[2].data(), a.num_kv_heads, a.num_keys, a.value_dim);
  Result<T> r;
  if (up) r.gradient = zeros_like(in);
  std::size_t at = 3;
  auto bind = [&](auto& arrays) {
    for (auto& array : arrays) {
      array.value = in[at].data();
      if (up) array.grad = r.gradient[at].data();
      ++at;
    }
  };
  bind(p.position.arrays);
  bind(p.score.arrays);
  for (auto& bias : p.bias) bind(bias.arrays);
  bind(p.normalizer.arrays);
  r.out.assign(s.rows() * std::size_t(a.value_dim), T(777));
  r.lse.assign(s.rows(), T(777));
  if (s.gives_lse()) r.entropy.assign(s.rows(), T(777));
  engine::forward(p, engine::ForwardResult<T>{.out = strided(r.out.data(), a.num_heads, a.num_queries, a.value_dim),
                                              .lse = r.lse.data(),
                                              .entropy = r.entropy.empty() ? nullptr : r.entropy.data()});
  if (!up) return r;
  const T* out = r.out.data();
  const engine::BackwardInputs<T> inputs{.out = strided(out, a.num_heads, a.num_queries, a.value_dim),
                                         .dout = strided(up->dout.data(), a.num_heads, a.num_queries, a.value_dim),
                                         .lse = r.lse.data(),
                                         .dlse = up->dlse.empty() ? nullptr : up->dlse.data(),
                                         .entropy = up->dentropy.empty() ? nullptr : r.entropy.data(),
                                         .dentropy = up->dentropy.empty() ? nullptr : up->dentropy.data()};
  engine::backward(
      p, inputs,
      engine::BackwardResult<T>{.query = strided(r.gradient[0].data(), a.num_heads, a.num_queries, a.query_dim),
                                .key = strided(r.gradient[1].data(), a.num_kv_heads, a.num_keys, a.key_dim),
                                .value = strided(r.gradient[2].data(), a.num_kv_heads, a.num_keys, a.value_dim)});
  return r;
}

}  // namespace attune::contract

// What positions check when a call is made, and their numbers that no scalar enters: frequencies, fades, weights of
// interpolation, and the sines of a row.
//
// The ladder, rotary over the plain path at (1, 8, 1024, 64), forward / backward (AVX-512, Zen 4, one thread):
//   powers and sines of the C library in each block of queries, a loop over rows for each pair   1.15 / 1.12
//   all pairs of a row in vectors, frequencies kept by the thread, sines without a branch        1.06 / 1.07
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "attune/attention/any_stage.hpp"
#include "attune/attention/position/all.hpp"
#include "attune/base/error.hpp"

namespace attune {

namespace {

void one_width(const char* stage, const AttendShape& s) {
  if (s.query_dim != s.key_dim) {
    fail(stage, "query and key of one width", fmt::format("got {} and {}", s.query_dim, s.key_dim));
  }
}
void positive(const char* stage, const char* what, double x) {
  if (!(x > 0) || !std::isfinite(x)) fail(stage, fmt::format("a {} above 0", what), fmt::format("got {}", x));
}
void check_grid(const char* stage, int grid_width, int prefix_tokens) {
  if (grid_width < 1) fail(stage, "a grid_width of 1 or more", fmt::format("got {}", grid_width));
  if (prefix_tokens < 0) fail(stage, "prefix_tokens of 0 or more", fmt::format("got {}", prefix_tokens));
}

/// How often a pair with this frequency turns in `length` positions.
double turns(double frequency, int length) { return frequency * length / (2 * std::numbers::pi); }

/// Up to here the multiples of pi / 2 in front of an angle are whole in 20 bits.
constexpr double kPlainAngle = 1 << 20;

/// sin x and cos x of |x| < kPlainAngle, within 2 ulp of 1, without a branch: x = n pi / 2 + r, |r| <= pi / 4, and the
/// series of both at r, whose next terms are below 5e-17. pi / 2 is taken in three parts, the first two of 33 bits, so
/// that their products with n are exact.
inline void sine_and_cosine(double x, double& sine, double& cosine) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: the lowest bits of a sum with it are the integer
  const double t = x * (2 / std::numbers::pi) + kMagic, n = t - kMagic;
  const auto quarter = std::bit_cast<std::uint64_t>(t);
  const double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69, z = r * r;
  double s = -1.0 / 1307674368000, c = 1.0 / 20922789888000;  // 15! and 16!
  s = s * z + 1.0 / 6227020800, c = c * z - 1.0 / 87178291200;
  s = s * z - 1.0 / 39916800, c = c * z + 1.0 / 479001600;
  s = s * z + 1.0 / 362880, c = c * z - 1.0 / 3628800;
  s = s * z - 1.0 / 5040, c = c * z + 1.0 / 40320;
  s = s * z + 1.0 / 120, c = c * z - 1.0 / 720;
  s = s * z - 1.0 / 6, c = c * z + 1.0 / 24;
  const double half = 0.5 * z, most = 1 - half;
  const double sin_r = r + r * z * s, cos_r = most + (((1 - most) - half) + z * z * c);
  const bool swap = quarter & 1;
  const auto signed_by = [](double y, std::uint64_t bit) {
    return std::bit_cast<double>(std::bit_cast<std::uint64_t>(y) ^ (bit << 62));
  };
  sine = signed_by(swap ? cos_r : sin_r, quarter & 2);
  cosine = signed_by(swap ? sin_r : cos_r, (quarter + 1) & 2);
}

}  // namespace

void detail::Turns::resize(int pairs, bool fades) {
  for (auto* numbers : {&frequency, &cos, &sin, &step_cos, &step_sin}) numbers->assign(std::size_t(pairs), 0);
  fade.assign(std::size_t(fades ? pairs : 0), 0);
  amplitude = 1;
  middle = 0;
}
void detail::Turns::take_steps() {
  fastest = 0;
  for (std::size_t k = 0; k < frequency.size(); ++k) {
    const double growth = fade.empty() ? 1 : std::exp(fade[k]);
    step_cos[k] = growth * std::cos(frequency[k]);
    step_sin[k] = growth * std::sin(frequency[k]);
    fastest = std::max(fastest, std::abs(frequency[k]));
  }
}
void detail::Turns::start(double position, int first, int end) {
  double* __restrict c = cos.data(), * __restrict s = sin.data();
  const double* __restrict f = frequency.data();
  if (std::abs(position) * fastest < kPlainAngle) {
    on_cpu<double>([=] {
      for (int k = first; k < end; ++k) sine_and_cosine(position * f[k], s[k], c[k]);
    });
  } else {
    for (int k = first; k < end; ++k) s[k] = std::sin(position * f[k]), c[k] = std::cos(position * f[k]);
  }
  if (amplitude == 1 && fade.empty()) return;
  for (int k = first; k < end; ++k) {
    const double size = amplitude * (fade.empty() ? 1 : std::exp(fade[std::size_t(k)] * (position - middle)));
    c[k] *= size, s[k] *= size;
  }
}

namespace {

/// Calls f(row) with t at each row of a run, in vectors for scalars that have them.
template <class T, class F>
void rows_of_run(detail::Turns& t, int moving, int rows, F f) {
  detail::on_cpu<T>([&] {
    for (int r = 0; r < rows; ++r) {
      if (r > 0) t.advance(moving, t.pairs());
      f(r);
    }
  });
}

template <bool kBack, class T>
void turn_row(const T* __restrict x, T* __restrict y, int cols, detail::TurnPairs pairs, const detail::Turns& t) {
  const int half = pairs.dim / 2;
  const double* __restrict cos = t.cos.data(), * __restrict sin = t.sin.data();
  const auto put = [](T& to, T value) {
    if constexpr (kBack)
      to += value;
    else
      to = value;
  };
  const auto turn = [&](int a, int b, int k) {
    const T x1 = x[a], x2 = x[b], c = T(cos[k]), s = T(kBack ? -sin[k] : sin[k]);
    put(y[a], x1 * c - x2 * s);
    put(y[b], x1 * s + x2 * c);
  };
  if (pairs.interleaved) {
    for (int k = 0; k < half; ++k) turn(2 * k, 2 * k + 1, k);
  } else {
    for (int k = 0; k < half; ++k) turn(k, k + half, k);
  }
  for (int c = pairs.dim; c < cols; ++c) put(y[c], x[c]);
}

}  // namespace

template <class T>
void detail::turn_run(Turns& t, int moving, Matrix<const T> x, Matrix<T> y, TurnPairs pairs, bool back) {
  if (back)
    rows_of_run<T>(t, moving, x.rows, [&](int r) { turn_row<true>(x[r], y[r], x.cols, pairs, t); });
  else
    rows_of_run<T>(t, moving, x.rows, [&](int r) { turn_row<false>(x[r], y[r], x.cols, pairs, t); });
}
template <class T>
void detail::add_waves(Turns& t, int moving, Matrix<const T> x, Matrix<T> y) {
  const int dim = x.cols;
  rows_of_run<T>(t, moving, x.rows, [&](int r) {
    const T* __restrict from = x[r];
    T* __restrict to = y[r];
    const double* __restrict sin = t.sin.data(), * __restrict cos = t.cos.data();
    for (int k = 0; k < dim / 2; ++k) {
      to[2 * k] = from[2 * k] + T(sin[k]);
      to[2 * k + 1] = from[2 * k + 1] + T(cos[k]);
    }
    if (dim % 2) to[dim - 1] = from[dim - 1] + T(sin[dim / 2]);
  });
}
template <class T>
void detail::add_grid_waves(Turns& t, int moving, bool in_grid, Matrix<const T> x, Matrix<T> y) {
  const int quarter = x.cols / 4;
  const T size = T(in_grid ? 1 : 0);
  rows_of_run<T>(t, moving, x.rows, [&](int r) {
    const auto add = [&](int at, const std::vector<double>& wave, int first) {
      const T* __restrict from = x[r] + at;
      T* __restrict to = y[r] + at;
      const double* __restrict w = wave.data() + first;
      for (int k = 0; k < quarter; ++k) to[k] = from[k] + size * T(w[k]);
    };
    add(0, t.sin, quarter), add(quarter, t.cos, quarter);
    add(2 * quarter, t.sin, 0), add(3 * quarter, t.cos, 0);
  });
}
#define ATTUNE_RUNS(T)                                                                         \
  template void detail::turn_run<T>(Turns&, int, Matrix<const T>, Matrix<T>, TurnPairs, bool); \
  template void detail::add_waves<T>(Turns&, int, Matrix<const T>, Matrix<T>);                 \
  template void detail::add_grid_waves<T>(Turns&, int, bool, Matrix<const T>, Matrix<T>);
ATTUNE_RUNS(float)
ATTUNE_RUNS(double)
ATTUNE_RUNS(Dual<double>)
#undef ATTUNE_RUNS

// ----------------------------------------------------------------------------------------------------------- rotary

void Rotary::check(const AttendShape& s) const {
  one_width("rotary", s);
  const int dim = rotary_dim ? rotary_dim : s.key_dim;
  if (dim < 2 || dim % 2 != 0 || dim > s.key_dim) {
    fail("rotary", fmt::format("an even rotary_dim of 2 to {}", s.key_dim), fmt::format("got {}", dim));
  }
  positive("rotary", "base", base);
  if (scaling == RotaryScaling::none) return;
  if (!(factor >= 1) || !std::isfinite(factor)) fail("rotary", "a factor of 1 or more", fmt::format("got {}", factor));
  const std::string_view by = option_names(scaling)[std::size_t(scaling)];
  const bool ntk = scaling == RotaryScaling::ntk || scaling == RotaryScaling::dynamic;
  if (ntk && dim < 4) fail("rotary", fmt::format("a rotary_dim of 4 or more to scale by {}", by), "got 2");
  if (scaling == RotaryScaling::linear || scaling == RotaryScaling::ntk) return;
  if (original_length < 1) {
    fail("rotary", fmt::format("an original_length to scale by {}", by), fmt::format("got {}", original_length));
  }
  if (scaling == RotaryScaling::dynamic) return;
  if (!(beta_slow > 0) || !(beta_fast == 0 || beta_fast > beta_slow) || !std::isfinite(beta_fast)) {
    fail("rotary", "beta_slow above 0 and beta_fast above it (or 0)",
         fmt::format("got {} and {}", beta_slow, beta_fast));
  }
  if (scaling != RotaryScaling::yarn) return;
  if (!(base > 1)) fail("rotary", "a base above 1 to scale by yarn", fmt::format("got {}", base));
  if (attention_factor) positive("rotary", "attention_factor", *attention_factor);
}
double Rotary::frequency(int k, int dim, int num_keys) const {
  const double plain = std::pow(base, -2.0 * k / dim);
  const auto stretched = [&](double by) { return std::pow(base * std::pow(by, dim / (dim - 2.0)), -2.0 * k / dim); };
  switch (scaling) {
    case RotaryScaling::none:
      return plain;
    case RotaryScaling::linear:
      return plain / factor;
    case RotaryScaling::ntk:
      return stretched(factor);
    case RotaryScaling::dynamic:
      return num_keys <= original_length ? plain
                                         : stretched(factor * num_keys / double(original_length) - (factor - 1));
    case RotaryScaling::yarn: {
      // The pair, as a real number, that turns so often; the ramp goes from one to the other.
      const auto pair_of = [&](double how_often) {
        return dim * std::log(original_length / (how_often * 2 * std::numbers::pi)) / (2 * std::log(base));
      };
      const double low = std::max(0.0, std::floor(pair_of(beta_fast > 0 ? beta_fast : 32)));
      const double high = std::min(dim - 1.0, std::ceil(pair_of(beta_slow)));
      const double ramp = std::clamp((k - low) / (high > low ? high - low : high - low + 1e-3), 0.0, 1.0);
      return plain / factor * ramp + plain * (1 - ramp);
    }
    case RotaryScaling::llama3: {
      const double high = beta_fast > 0 ? beta_fast : 4;
      const double share = std::clamp((turns(plain, original_length) - beta_slow) / (high - beta_slow), 0.0, 1.0);
      return plain / factor * (1 - share) + plain * share;
    }
  }
  return plain;
}
double Rotary::amplitude() const {
  if (scaling != RotaryScaling::yarn) return 1;
  return attention_factor ? *attention_factor : 0.1 * std::log(factor) + 1;
}

// -------------------------------------------------------------------------------------------------- two dimensions

void Rotary2d::check(const AttendShape& s) const {
  one_width("rotary_2d", s);
  const int dim = rotary_dim ? rotary_dim : s.key_dim;
  if (dim < 4 || dim % 4 != 0 || dim > s.key_dim) {
    fail("rotary_2d", fmt::format("a rotary_dim of 4 to {} that 4 divides", s.key_dim), fmt::format("got {}", dim));
  }
  positive("rotary_2d", "base", base);
  check_grid("rotary_2d", grid_width, prefix_tokens);
}
double Rotary2d::frequency(int k, int dim) const { return std::pow(base, -4.0 * k / dim); }

void Sinusoidal2d::check(const AttendShape& s) const {
  for (const int dim : {s.query_dim, s.key_dim}) {
    if (dim % 4 != 0) fail("sinusoidal_2d", "widths that 4 divides", fmt::format("got {}", dim));
  }
  positive("sinusoidal_2d", "base", base);
  check_grid("sinusoidal_2d", grid_width, prefix_tokens);
}
double Sinusoidal2d::frequency(int k, int dim) const { return std::pow(base, -4.0 * k / dim); }

// ------------------------------------------------------------------------------------------------------------- xPos

void XPos::check(const AttendShape& s) const {
  one_width("xpos", s);
  if (s.key_dim % 2 != 0) fail("xpos", "an even width", fmt::format("got {}", s.key_dim));
  positive("xpos", "base", base);
  positive("xpos", "scale_base", scale_base);
  positive("xpos", "gamma", gamma);
}
double XPos::frequency(int k, int dim) const { return std::pow(base, -2.0 * k / dim); }
double XPos::log_scale(int k, int dim) const { return std::log((2.0 * k / dim + gamma) / (1 + gamma)) / scale_base; }

// ----------------------------------------------------------------------------------------------------- learned grid

void LearnedGrid::fit(const AttendShape& s) {
  const int tokens = std::max(1, s.num_keys - prefix_tokens);
  const auto give = [](int& to, int from) { to = to ? to : from; };
  give(grid_width, grid_height ? (tokens + grid_height - 1) / grid_height : detail::fitting_width(tokens));
  give(grid_height, (tokens + grid_width - 1) / grid_width);
  give(table_height, grid_height);
  give(table_width, grid_width);
}
void LearnedGrid::check(const AttendShape& s) const {
  one_width("learned_grid", s);
  check_grid("learned_grid", grid_width, prefix_tokens);
  if (grid_height < 1 || table_height < 1 || table_width < 1) {
    fail("learned_grid", "a grid and a table of 1 patch or more each way",
         fmt::format("got {} x {} and {} x {}", grid_height, grid_width, table_height, table_width));
  }
  const std::int64_t patches = std::int64_t(grid_height) * grid_width + prefix_tokens;
  if (patches < s.num_keys) {
    fail("learned_grid", fmt::format("positions for all {} keys", s.num_keys), fmt::format("got {}", patches));
  }
}
int LearnedGrid::position(Side side, const Area& area, int n) const {
  const int first = detail::first_position(side == Side::query, area), end = prefix_tokens + grid_height * grid_width;
  if (first < 0 || first + n > end) {
    fail("learned_grid", fmt::format("positions from 0 to {}", end - 1),
         fmt::format("got {} to {}", first, first + n - 1));
  }
  return first;
}
LearnedGrid::Taps LearnedGrid::taps(int at, int grid, int table) const {
  const double place = grid == table ? at : (at + 0.5) * table / grid - 0.5, low = std::floor(place), t = place - low;
  const auto inside = [&](double i) { return int(std::clamp(i, 0.0, table - 1.0)); };
  if (t == 0) return {1, {inside(low)}, {1}};
  if (interpolation == Interpolation::bilinear) return {2, {inside(low), inside(low + 1)}, {1 - t, t}};
  // Cubic convolution (Keys, 1981): of the neighbours at distance below 1, and of those between 1 and 2.
  constexpr double a = -0.75;
  const auto near = [&](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  const auto far = [&](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  return {4,
          {inside(low - 1), inside(low), inside(low + 1), inside(low + 2)},
          {far(t + 1), near(t), near(1 - t), far(2 - t)}};
}

}  // namespace attune

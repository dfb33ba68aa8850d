// How far a toy call is from its plain formula, in values and in derivatives.
#include "attention/check_parts.hpp"

namespace attune::checking {

static double largest_logit(const formula::Result<double>& r, const formula::Problem& p) {
  double most = 0;
  for (std::size_t n = 0; n < r.logits.size(); ++n) {
    const std::size_t keys = std::size_t(p.shape.num_keys), queries = std::size_t(p.shape.num_queries);
    const int j = int(n % keys), i = int(n / keys % queries), bh = int(n / keys / queries);
    if (!p.visible || p.visible(bh / p.shape.num_heads, bh % p.shape.num_heads, i, j))
      most = std::max(most, std::abs(r.logits[n]));
  }
  return most;
}

static void check_float64(Judge& judge, const ToyCall& c, const formula::Result<double>& plain,
                          const ToyResult<double>& run, const Arrays<double>& gradient) {
  StageReport& r = judge.report();
  const double bar = 1e-13 * (1 + largest_logit(plain, c.plain)), floor = largest_of(gradient);
  for (const ToyResult<double>& result : {run, run_tiles<double>(c, c.in)}) {
    judge.hold("forward", r.forward, error_of(result.out, plain.out), bar);
    if (!c.dlse.empty()) judge.hold("lse", r.forward, error_of(result.lse, plain.stat), bar);
    for (std::size_t a = 0; a < gradient.size(); ++a)
      judge.hold("backward", r.backward, error_of(result.gradient[a], gradient[a], floor), 1e-12);
  }
}

static void check_float32(Judge& judge, const ToyCall& c, const formula::Result<double>& plain,
                          const Arrays<double>& gradient) {
  StageReport& r = judge.report();
  const auto in = as<float>(c.in);
  const double bar = 2e-6 * (1 + largest_logit(plain, c.plain) / 8), floor = largest_of(gradient) / 20;
  const ToyResult<float> run = run_public<float>(c, in);
  const auto hold = [&](const char* what, double& worst, double error, double limit, auto plain_error) {
    judge.hold(what, worst, error, error <= limit ? limit : std::max(limit, 2 * plain_error()));
  };
  hold("float32 forward", r.forward_float32, error_of(run.out, plain.out), bar,
       [&] { return error_of(formula::run(c.plain, in).out, plain.out); });
  for (std::size_t a = 0; a < in.size(); ++a) {
    hold("float32 backward", r.backward_float32, error_of(run.gradient[a], gradient[a], floor), 5 * bar, [&] {
      const auto of_formula = formula::gradient(c.plain, in, as<float>(c.dout), as<float>(c.dlse));
      return error_of(of_formula[a], gradient[a], floor);
    });
  }
}

static Arrays<double> direction_of(const ToyCall& c, double norm, Generator& random) {
  Arrays<double> v;
  double square = 0;
  for (const auto& array : c.in) {
    auto& to = v.emplace_back();
    for (std::size_t n = 0; n < array.size(); ++n) to.push_back(random.uniform(-1, 1));
    square += dot_of(to, to);
  }
  for (auto& array : v) {
    for (double& x : array) x *= norm / std::sqrt(square);
  }
  return v;
}
static Arrays<Dual<double>> duals_of(const Arrays<double>& x, const Arrays<double>& v) {
  Arrays<Dual<double>> r;
  for (std::size_t a = 0; a < x.size(); ++a) {
    auto& to = r.emplace_back();
    for (std::size_t n = 0; n < x[a].size(); ++n) to.emplace_back(x[a][n], v[a][n]);
  }
  return r;
}
static std::vector<double> tangent_of(const std::vector<Dual<double>>& v) {
  std::vector<double> d;
  for (const Dual<double>& x : v) d.push_back(x.d);
  return d;
}

/// First order: <u, J v> = <J^T u, v>. Second order: <w, H v> = <v, H w>.
static void check_duals(Judge& judge, const ToyCall& c, const ToyResult<double>& run, Generator& random) {
  StageReport& r = judge.report();
  const Arrays<double> v = direction_of(c, 1, random), w = direction_of(c, 1, random);
  const auto in = duals_of(c.in, v);
  const auto image = formula::run(c.plain, in);
  const auto out = tangent_of(image.out), stat = tangent_of(image.stat);
  double left = dot_of(out, c.dout), upstream = dot_of(c.dout, c.dout);
  double size = dot_of(out, out);
  if (!c.dlse.empty()) {
    left += dot_of(stat, c.dlse);
    size += dot_of(stat, stat);
    upstream += dot_of(c.dlse, c.dlse);
  }
  const double right = dot_of(run.gradient, v), gradient = dot_of(run.gradient, run.gradient);
  const double scale = std::sqrt(upstream * size) + std::sqrt(gradient * dot_of(v, v));
  judge.hold("adjoint", r.adjoint, left == right ? 0 : std::abs(left - right) / scale, 1e-13);

  const ToyResult<Dual<double>> along_v = run_tiles<Dual<double>>(c, in);
  judge.hold("duals", r.duals, error_of(tangent_of(along_v.out), out), 1e-12);
  const ToyResult<Dual<double>> along_w = run_tiles<Dual<double>>(c, duals_of(c.in, w));
  double vhw = 0, whv = 0, all = 0;
  for (std::size_t a = 0; a < v.size(); ++a) {
    const auto hv = tangent_of(along_v.gradient[a]), hw = tangent_of(along_w.gradient[a]);
    for (std::size_t n = 0; n < hv.size(); ++n) {
      whv += w[a][n] * hv[n];
      vhw += v[a][n] * hw[n];
      all += std::abs(w[a][n] * hv[n]);
    }
  }
  judge.hold("Hessian", r.hessian, vhw == whv ? 0 : std::abs(vhw - whv) / all, 1e-12);
}

static std::vector<bool> support_of(const ToyCall& c, const Arrays<double>& in) {
  std::vector<bool> support;
  for (const double p : formula::run(c.plain, in).probs) support.push_back(p > 0);
  return support;
}

static void check_taylor(Judge& judge, const ToyCall& c, bool kinks, const ToyResult<double>& run, Generator& random) {
  const auto loss_of = [&](const ToyResult<double>& r) { return dot_of(r.out, c.dout) + dot_of(r.lse, c.dlse); };
  const double loss = loss_of(run);
  const std::vector<bool> support = kinks ? support_of(c, c.in) : std::vector<bool>{};
  double norm = 1, slope = std::numeric_limits<double>::quiet_NaN();
  bool crossed = false;
  for (int attempt = 0; attempt < 12; ++attempt, norm *= 0.7) {
    const Arrays<double> direction = direction_of(c, norm, random);
    const double rise = dot_of(run.gradient, direction);
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    crossed = false;
    for (int k = 3; k <= 9; ++k) {
      const double h = std::ldexp(1.0, -k);
      Arrays<double> moved = c.in;
      for (std::size_t a = 0; a < moved.size(); ++a) {
        for (std::size_t e = 0; e < moved[a].size(); ++e) moved[a][e] += h * direction[a][e];
      }
      crossed = crossed || (kinks && support_of(c, moved) != support);
      const double remainder = std::abs(loss_of(run_public<double>(c, moved)) - loss - h * rise);
      if (remainder < 1e-11) continue;
      const double x = -k, y = std::log2(remainder);
      n += 1, sx += x, sy += y, sxx += x * x, sxy += x * y;
    }
    if (crossed) continue;
    if (n == 0) return;  // linear along this direction, with the gradient for its slope
    if (n < 3) continue;
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
    if (std::abs(slope - 2) <= 0.05) {
      judge.report().taylor = std::max(judge.report().taylor, std::abs(slope - 2));
      return;
    }
  }
  if (kinks && (crossed || std::isnan(slope))) return;
  judge.report().taylor = std::max(judge.report().taylor, std::abs(slope - 2));
  judge.fails(fmt::format("Taylor slope {:.3f}, not 2", slope));
}

ToyResult<double> check_values(Judge& judge, const ToyCall& c) {
  const formula::Result<double> plain = formula::run(c.plain, c.in);
  const Arrays<double> gradient = formula::gradient(c.plain, c.in, c.dout, c.dlse);
  const ToyResult<double> run = run_public<double>(c, c.in);
  check_float64(judge, c, plain, run, gradient);
  check_float32(judge, c, plain, gradient);
  return run;
}

void check_derivatives(Judge& judge, const ToyCall& c, bool kinks, const ToyResult<double>& run, Generator& random) {
  check_duals(judge, c, run, random);
  check_taylor(judge, c, kinks, run, random);
}

}  // namespace attune::checking

// The matrix products of small models and what surrounds them. Products: GFLOP/s on one thread and on two and the share
// of the multiply-add peak, which is measured between them because the clock may change it. Medians. One thread is
// timed by its processor time, so that other programs on the machine count less; two threads by the clock on the wall.
#include <ctime>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "attune/base/cpu.hpp"
#include "attune/base/parallel.hpp"
#include "ceilings.hpp"
#include "kernels/activation.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/loss.hpp"
#include "kernels/matmul.hpp"
#include "kernels/norm.hpp"
#include "kernels/update.hpp"

namespace {

using namespace attune;

struct Shape {
  const char* name;
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
};

/// Median seconds of a call, and the median peak of one core measured beside it.
struct Timing {
  double seconds, peak;
};
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

template <class F>
Timing measure(F&& f, int repeats, double (*clock)()) {
  std::vector<double> seconds, peaks;
  f();
  for (int i = 0; i < repeats; ++i) {
    peaks.push_back(bench::fma_peak_once());
    int calls = 0;
    const double start = clock();
    do {
      f();
      ++calls;
    } while (clock() - start < 0.004);
    seconds.push_back((clock() - start) / calls);
  }
  return {bench::median(seconds), bench::median(peaks)};
}

void run(const Shape& s, int repeats) {
  std::vector<float> a(std::size_t(s.m * s.k), 0.5f), b(std::size_t(s.n * s.k), 0.25f), c(std::size_t(s.m * s.n));
  const kernels::Matmul<float> p{.rows = s.m,
                                 .columns = s.n,
                                 .inner = s.k,
                                 .a = a.data(),
                                 .a_stride = s.transpose_a ? s.m : s.k,
                                 .transpose_a = s.transpose_a,
                                 .b = b.data(),
                                 .b_stride = s.transpose_b ? s.k : s.n,
                                 .transpose_b = s.transpose_b,
                                 .c = c.data(),
                                 .c_stride = s.n};
  const double flops = 2.0 * double(s.m) * double(s.n) * double(s.k);
  std::printf("%-14s %5ld x %5ld x %5ld ", s.name, long(s.m), long(s.n), long(s.k));
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    const Timing t = measure([&] { kernels::matmul(p); }, repeats, threads == 1 ? thread_seconds : bench::now);
    const double rate = flops / t.seconds * 1e-9;
    if (threads == 1) {
      std::printf(" %8.1f us %7.1f GFLOP/s %5.1f %%", t.seconds * 1e6, rate, t.peak > 0 ? 100 * rate / t.peak : 0.0);
    } else {
      set_num_threads(1);
      const Timing one = measure([&] { kernels::matmul(p); }, repeats, bench::now);
      std::printf("   two threads %7.1f GFLOP/s %5.2fx\n", rate, one.seconds / t.seconds);
    }
  }
  std::fflush(stdout);
}

/// Nanoseconds per element of a kernel over rows x width numbers, on one thread.
template <class F>
void report(const char* name, double elements, int repeats, F&& f) {
  set_num_threads(1);
  const Timing t = measure(f, repeats, thread_seconds);
  std::printf("%-28s %8.3f ns an element\n", name, t.seconds * 1e9 / elements);
  std::fflush(stdout);
}

/// What surrounds the products, at 2048 rows of 128 numbers and of 2000 classes.
void run_elementwise(int repeats) {
  using kernels::Pointwise;
  const std::int64_t rows = 2048, width = 128, n = rows * width, classes = 2000;
  const auto count = std::size_t(n);
  std::vector<float> x(count), y(count), dx(count), m(count), v(count);
  std::vector<float> weight(width, 1.f), bias(width, 1.f), mean(rows, 0.f), rstd(rows, 0.f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(i % 977) * 0.008f - 4.f;
  const double e = double(n);
  report("relu", e, repeats, [&] { kernels::pointwise(Pointwise::relu, n, x.data(), y.data()); });
  report("exp", e, repeats, [&] { kernels::pointwise(Pointwise::exp, n, x.data(), y.data()); });
  report("tanh", e, repeats, [&] { kernels::pointwise(Pointwise::tanh, n, x.data(), y.data()); });
  report("gelu", e, repeats, [&] { kernels::pointwise(Pointwise::gelu, n, x.data(), y.data()); });
  report("gelu backward", e, repeats,
         [&] { kernels::pointwise_backward(Pointwise::gelu, n, x.data(), y.data(), dx.data(), false); });
  report("x + dropout", e, repeats, [&] { kernels::add_dropout(n, x.data(), y.data(), 58982, 1, 0, dx.data()); });
  report("layer norm", e, repeats, [&] {
    kernels::layer_norm(rows, width, x.data(), weight.data(), bias.data(), 1e-5, y.data(), mean.data(), rstd.data());
  });
  report("layer norm backward", e, repeats, [&] {
    kernels::layer_norm_backward(rows, width, x.data(), weight.data(), mean.data(), rstd.data(), y.data(), dx.data(),
                                 false, weight.data(), bias.data());
  });
  report("sum of rows", e, repeats, [&] { kernels::sum_rows(rows, width, x.data(), width, bias.data(), false); });
  report("adam, propose and apply", e, repeats, [&] {
    kernels::propose_adam<float>(n, {.learning_rate = 1e-3}, nullptr, x.data(), m.data(), v.data(), dx.data());
    kernels::apply_update(n, 1e-5, dx.data(), y.data());
  });
  std::vector<float> logits(std::size_t(rows * classes)), dlogits(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = float(i % 991) * 0.006f;
  const std::vector<std::int32_t> labels(std::size_t(rows), 5);
  report("cross-entropy with gradient", double(rows * classes), repeats, [&] {
    kernels::cross_entropy(kernels::CrossEntropy<float>{.rows = rows,
                                                        .classes = classes,
                                                        .logits = logits.data(),
                                                        .labels = labels.data(),
                                                        .label_smoothing = 0.1,
                                                        .loss = mean.data(),
                                                        .dlogits = dlogits.data()});
  });
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 9;
  std::printf("%s, %s, multiply-add peak of a core %.1f GFLOP/s\n", cpu_info().model.c_str(),
              std::string(name_of(cpu_target())).c_str(), bench::fma_peak_once());
  const std::int64_t rows = 2048;
  for (auto [out, in] :
       {std::pair<std::int64_t, std::int64_t>{128, 128}, {512, 128}, {128, 512}, {384, 384}, {1024, 1024}, {64, 64}}) {
    run({"x W^T", rows, out, in, false, true}, repeats);
    run({"dy W", rows, in, out, false, false}, repeats);
    run({"dy^T x", out, in, rows, true, false}, repeats);
  }
  run({"x W^T logits", rows, 2000, 128, false, true}, repeats);
  run({"dy W logits", rows, 128, 2000, false, false}, repeats);
  run({"dy^T x logits", 2000, 128, rows, true, false}, repeats);
  for (std::int64_t few : {1, 4, 8, 16, 64}) run({"x W^T few", few, 512, 128, false, true}, repeats);
  run({"x W^T few", 1, 2000, 128, false, true}, repeats);
  run({"x W^T square", 512, 512, 512, false, true}, repeats);
  run_elementwise(repeats);
}

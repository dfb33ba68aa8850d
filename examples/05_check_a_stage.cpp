// Is a stage of your own exact? check_stage() holds it against its plain formula, one line, and finds a wrong gradient.
// The stage is a smooth squash of logits with a learned bound for each head, "Inverse square root units",
// arXiv:1710.09967:
//
//     y = x / sqrt(1 + (x / bound)^2)
#include <attune/attention/check_stage.hpp>
#include <attune/attune.hpp>
#include <cstdio>

using namespace attune;

// With u = x / bound and r = 1 / sqrt(1 + u^2): dy/dx = r^3, dy/dbound = (u r)^3. `kWrong` forgets a power.
template <bool kWrong>
struct Squash {
  static constexpr std::string_view name = "squash";
  static constexpr bool saves = true;  // backward wants the logit that came in

  std::vector<ParameterSpec> parameters(const AttendShape&) const { return {{"bound", {1}, Per::head}}; }

  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const {
    const T bound = call.parameter[0].value[0];
    if (saved) each(x, *saved, [](T& logit, T& before) { before = logit; });
    each(x, [=](T& logit, int, int) {
      const T u = logit / bound;
      logit = logit / sqrt(T(1) + u * u);
    });
  }
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const {
    const T bound = call.parameter[0].value[0];
    call.parameter[0].grad[0] += sum_each(*saved, dx, [=](T before, T d) {
      const T u = before / bound, ur = u / sqrt(T(1) + u * u);
      return d * ur * ur * ur;
    });
    each(*saved, dx, [=](T before, T& d) {
      const T u = before / bound, r = T(1) / sqrt(T(1) + u * u);
      d *= kWrong ? r : r * r * r;
    });
  }
};

int main() {
  const formula::BiasFormula squash = [](const formula::Pair& at, auto x, auto arrays) {
    const auto bound = arrays[0][std::size_t(at.head)];
    return x / sqrt(decltype(x)(1.0) + x / bound * (x / bound));
  };
  const StageCheck check{.ranges = {{"bound", {0.5, 2}}}};

  const StageReport right = check_stage({.bias = Squash<false>{}}, {.bias = {squash}}, check);
  std::printf("%s\n", right.text().c_str());

  const StageReport wrong = check_stage({.bias = Squash<true>{}}, {.bias = {squash}}, check);
  std::printf("with a wrong gradient: %zu failures, the first: %s\n", wrong.failed.size(),
              wrong.exact() ? "none" : wrong.failed[0].c_str());
  return right.exact() && !wrong.exact() && wrong.forward < 1e-13 ? 0 : 1;
}

// From a plain struct to the contracts of stage.hpp: AnyScore, AnyBias, AnyMask, AnyNormalizer, AnyPosition.
//
// An Any is a small value that holds one shared, immutable stage, wrapped for every scalar that the engine is compiled
// for. This is the one public header that names instruction sets: each call of a stage is compiled three times, so that
// a user's own lambda is vectorised for AVX2 and AVX-512 without any compiler flag (g++ wants -O3 for it).
#pragma once
#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "attune/attention/stage.hpp"
#include "attune/base/cpu.hpp"

namespace attune {
namespace detail {

#if defined(__x86_64__) && defined(__GNUC__)
template <class F>
[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl,avx512cd,avx2,fma,bmi2"), gnu::flatten]] void run_avx512(const F& f) {
  f();
}
template <class F>
[[gnu::target("avx2,fma,bmi2"), gnu::flatten]] void run_avx2(const F& f) {
  f();
}
/// Calls f compiled for the instruction set in use. Everything that f calls and that can be inlined is.
template <class T, class F>
void on_cpu(const F& f) {
  if constexpr (is_dual<T>) {
    f();
  } else {
    switch (cpu_target()) {
      case CpuTarget::avx512:
        return run_avx512(f);
      case CpuTarget::avx2:
        return run_avx2(f);
      default:
        return f();
    }
  }
}
#else
template <class T, class F>
void on_cpu(const F& f) {
  f();
}
#endif

/// What a shared pointer needs to know of what it keeps: the same for every type, so that each costs a destructor
/// alone.
struct Kept {
  virtual ~Kept() = default;
};

template <class S, class Base>
struct Holds : Base {
  S s;
  explicit Holds(S stage) : s(std::move(stage)) {}
  std::string_view name() const override {
    if constexpr (requires { S::name; })
      return S::name;
    else
      return "user";
  }
  void check(const AttendShape& shape) const override {
    if constexpr (requires { s.check(shape); }) s.check(shape);
  }
  const void* as(const std::type_info& type) const override { return type == typeid(S) ? &s : nullptr; }
};

template <class S, class Base>
struct HoldsParameters : Holds<S, Base> {
  using Holds<S, Base>::Holds, Holds<S, Base>::s;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const override {
    if constexpr (requires { s.parameters(shape); })
      return s.parameters(shape);
    else
      return {};
  }
};

template <class S, class T, class Base>
struct OfRowMap : HoldsParameters<S, Base> {
  using HoldsParameters<S, Base>::HoldsParameters, Holds<S, Base>::s;
  static constexpr bool kMaps = requires(const S& stage) { stage.width(Side::key, 1); };
  int width(Side side, int dim) const override {
    if constexpr (kMaps)
      return s.width(side, dim);
    else
      return 0;
  }
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const override {
    if constexpr (kMaps) on_cpu<T>([&] { s.map(side, rows, out, area, call); });
  }
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const override {
    if constexpr (kMaps) on_cpu<T>([&] { s.map_backward(side, rows, dout, drows, area, call); });
  }
};
template <class S, class T>
struct OfPosition final : OfRowMap<S, T, Position<T>> {
  using OfRowMap<S, T, Position<T>>::OfRowMap;
};
template <class S, class T>
struct OfScore final : OfRowMap<S, T, Score<T>> {
  using OfRowMap<S, T, Score<T>>::OfRowMap, Holds<S, Score<T>>::s;
  bool is_product() const override {
    if constexpr (requires { S::is_product; })
      return S::is_product;
    else
      return false;
  }
  bool keeps_logits() const override {
    if constexpr (requires { S::keeps_logits; })
      return S::keeps_logits;
    else
      return false;
  }
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const override {
    on_cpu<T>([&] { s.logits(f, x, call); });
  }
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const override {
    on_cpu<T>([&] { s.backward(f, dx, df, call); });
  }
};
template <class S, class T>
struct OfBias final : HoldsParameters<S, Bias<T>> {
  using HoldsParameters<S, Bias<T>>::HoldsParameters, Holds<S, Bias<T>>::s;
  bool saves() const override {
    if constexpr (requires { S::saves; })
      return S::saves;
    else
      return false;
  }
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>& call) const override {
    on_cpu<T>([&] { s.apply(x, saved, call); });
  }
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>& call) const override {
    on_cpu<T>([&] { s.backward(saved, dx, call); });
  }
};
template <class S, class T>
struct OfNormalizer final : HoldsParameters<S, Normalizer<T>> {
  using HoldsParameters<S, Normalizer<T>>::HoldsParameters, Holds<S, Normalizer<T>>::s;
  static constexpr bool kSweeps = requires(const S& stage, const Tile<T>& x, Rows<T>& r, Call<T>& c) {
    stage.sweep(x, x, r, c);
  };
  Walk walk() const override {
    if constexpr (requires { S::walk; })
      return S::walk;
    else
      return Walk::any;
  }
  bool gives_lse() const override {
    if constexpr (requires { S::gives_lse; })
      return S::gives_lse;
    else
      return false;
  }
  static constexpr bool kSupports =
      requires(const S& stage, const Tile<T>& x, const Rows<T>& r, Call<T>& c, std::uint64_t* pairs) {
    stage.support(x, r, c, pairs);
  };
  bool is_sparse() const override {
    if constexpr (requires { S::is_sparse; })
      return S::is_sparse;
    else
      return kSupports;
  }
  bool has_support() const override { return kSupports; }
  void support(const Tile<T>& x, const Rows<T>& r, Call<T>& c, std::uint64_t* pairs) const override {
    if constexpr (kSupports) on_cpu<T>([&] { s.support(x, r, c, pairs); });
  }
  bool sweeps() const override { return kSweeps; }
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& c) const override {
    on_cpu<T>([&] { s.forward(x, r, c); });
  }
  void finish(Rows<T>& r, Call<T>& c) const override { s.finish(r, c); }
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>& c) const override {
    if constexpr (kSweeps) on_cpu<T>([&] { s.sweep(x, dp, r, c); });
  }
  void begin_backward(Rows<T>& r, Call<T>& c) const override {
    if constexpr (requires { s.begin_backward(r, c); }) s.begin_backward(r, c);
  }
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& c) const override {
    on_cpu<T>([&] { s.backward(x, dp, r, c); });
  }
};
template <class S>
struct OfMask final : Holds<S, Mask> {
  using Holds<S, Mask>::Holds, Holds<S, Mask>::s;
  Range keys(const Area& a) const override {
    if constexpr (requires { s.keys(a); })
      return s.keys(a);
    else
      return {0, a.shape->num_keys};
  }
  Cover cover(const Area& a) const override {
    if constexpr (requires { s.cover(a); })
      return s.cover(a);
    else
      return Cover::partial;
  }
  void visible(const Area& a, std::uint64_t* rows) const override { s.visible(a, rows); }
};

/// Holds one stage for every scalar, in one piece of memory.
template <template <class> class Contract, template <class, class> class Of>
class AnyOf {
  template <class T>
  using Pointer = const Contract<T>*;
  std::shared_ptr<const Kept> memory_;
  std::tuple<Pointer<float>, Pointer<double>, Pointer<Dual<double>>> all_{};

  template <class S>
  struct Every final : Kept {
    Of<S, float> single;
    Of<S, double> twice;
    Of<S, Dual<double>> dual;
    explicit Every(const S& s) : single(s), twice(s), dual(s) {}
  };

 protected:
  template <class S>
  void hold(const S& s) {
    auto every = std::make_unique<Every<S>>(s);
    all_ = {&every->single, &every->twice, &every->dual};
    memory_ = std::unique_ptr<Kept>(std::move(every));
  }

 public:
  /// The stage for one scalar; null if there is none.
  template <class T>
  const Contract<T>* on() const {
    return std::get<Pointer<T>>(all_);
  }
  explicit operator bool() const { return on<float>() != nullptr; }
  /// The wrapped struct if it is an S, else null.
  template <class S>
  const S* as() const {
    return on<float>() ? static_cast<const S*>(on<float>()->as(typeid(S))) : nullptr;
  }
  std::string_view name() const { return on<float>() ? on<float>()->name() : std::string_view("none"); }
};

}  // namespace detail

// What makes a plain struct a stage of its kind: asserted where it is wrapped, so that the error names what is missing.
template <class S>
concept IsRowMap = requires(const S& s, Matrix<float> m, Matrix<const float> c, const Area& a, Call<float>& call) {
  s.width(Side::key, 1);
  s.map(Side::key, c, m, a, call);
  s.map_backward(Side::key, c, c, m, a, call);
};
template <class S>
concept IsScore = requires(const S& s, const Features<float>& f, Tile<float>& x, const DFeatures<float>& d,
                           Call<float>& c) {
  s.logits(f, x, c);
  s.backward(f, x, d, c);
};
template <class S>
concept IsBias = requires(const S& s, Tile<float>& x, Call<float>& c) {
  s.apply(x, &x, c);
  s.backward(&x, x, c);
};
template <class S>
concept IsMask = requires(const S& s, const Area& a, std::uint64_t* rows) {
  s.visible(a, rows);
};
template <class S>
concept IsNormalizer = requires(const S& s, Tile<float>& x, Rows<float>& r, Call<float>& c) {
  s.forward(x, r, c);
  s.finish(r, c);
  s.backward(x, x, r, c);
};

struct AnyPosition : detail::AnyOf<Position, detail::OfPosition> {
  AnyPosition() = default;
  template <class S>
  requires(!std::is_base_of_v<AnyPosition, S>) AnyPosition(S s) {
    static_assert(IsRowMap<S>, "a position has width(side, dim), map(...) and map_backward(...)");
    hold(s);
  }
};
struct AnyScore : detail::AnyOf<Score, detail::OfScore> {
  AnyScore() = default;
  template <class S>
  requires(!std::is_base_of_v<AnyScore, S>) AnyScore(S s) {
    static_assert(IsScore<S>, "a score has logits(features, x, call) and backward(features, dx, dfeatures, call)");
    hold(s);
  }
};
struct AnyBias : detail::AnyOf<Bias, detail::OfBias> {
  AnyBias() = default;
  template <class S>
  requires(!std::is_base_of_v<AnyBias, S>) AnyBias(S s) {
    static_assert(IsBias<S>, "a bias has apply(x, saved, call) and backward(saved, dx, call)");
    hold(s);
  }
};
struct AnyNormalizer : detail::AnyOf<Normalizer, detail::OfNormalizer> {
  AnyNormalizer() = default;
  template <class S>
  requires(!std::is_base_of_v<AnyNormalizer, S>) AnyNormalizer(S s) {
    static_assert(IsNormalizer<S>,
                  "a normalizer has forward(x, rows, call), finish(rows, call), backward(x, dp, rows, call)");
    hold(s);
  }
};
class AnyMask {
 public:
  AnyMask() = default;
  template <class S>
  requires(!std::is_base_of_v<AnyMask, S>) AnyMask(S s) {
    static_assert(IsMask<S>, "a mask has visible(area, rows)");
    mask_ = std::make_shared<detail::OfMask<S>>(std::move(s));
  }
  const Mask* get() const { return mask_.get(); }
  const Mask* operator->() const { return mask_.get(); }
  explicit operator bool() const { return mask_ != nullptr; }
  template <class S>
  const S* as() const {
    return mask_ ? static_cast<const S*>(mask_->as(typeid(S))) : nullptr;
  }
  std::string_view name() const { return mask_ ? mask_->name() : std::string_view("none"); }

 private:
  std::shared_ptr<const Mask> mask_;
};

/// A chain of biases, applied in order. One bias alone converts: {.bias = Alibi{}}.
class Biases : public std::vector<AnyBias> {
 public:
  using std::vector<AnyBias>::vector;
  Biases(AnyBias bias) : std::vector<AnyBias>{std::move(bias)} {}
  template <IsBias S>
  Biases(S s) : Biases(AnyBias(std::move(s))) {}
};

}  // namespace attune

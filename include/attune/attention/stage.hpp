// The five contracts: Position, Score, Bias, Mask, Normalizer.
//
//     out = normalize( mask( bias( score( position(query), position(key) ) ) ) ) . value
//
// A stage is a plain struct, an aggregate without a base class (SoftCap{.cap = 30}), whose members are templates over
// the scalar T, written once for float, double and Dual. any_stage.hpp wraps it: AnyBias b = SoftCap{.cap = 30}; the
// driver then reaches it by one virtual call per tile. What a stage may leave out is said at each contract; the
// abstract classes below are what the driver calls, and at the same time the documentation of the members that a struct
// offers.
//
// What the driver promises to every stage:
//  - A row that sees no key is found by the driver from the mask's bits: out 0, statistic -inf, gradients 0.
//  - Hidden logits are selected away, never multiplied by 0; hidden rows with NaN or Inf reach no stage's gradient.
//  - `grad` of a parameter is a slot of this (batch, head), summed in that order; `in_place` ones are the real memory.
//  - A stage owns no memory: Call::scratch lends some until the call returns. Stages are values and are shared by
//  threads.
//  - Denormals are flushed to 0 while a task runs.
//
// Beside its members a built-in stage says its `name`, its `source` (the paper) and its `cost`, and lists its options
// (stage_options.hpp): from these follow recipes, the command line and the table of mechanisms. `by_name = false` says
// that a name and options are not enough (a mask of given bits).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "attune/attention/stage_options.hpp"
#include "attune/attention/tile.hpp"

namespace attune {

/// Who has a copy of a parameter of his own.
enum class Per : std::uint8_t { call, batch, head, kv_head, batch_head };
/// Their names in recipes.
std::span<const std::string_view> option_names(Per);

/// How a learned array begins.
struct Start {
  enum class Kind : std::uint8_t {
    matrix,   // each copy, [out, in], uniform within sqrt(6 / (in + out)). AISTATS 2010
    uniform,  // -size .. size
    normal,   // standard deviation `size`
    numbers   // no draw: the array in as many equal parts, part i filled with numbers[i] (one a head, or one for all)
  };
  Kind kind = Kind::matrix;
  double size = 0;
  std::vector<double> numbers;

  static Start at(double everywhere) { return {Kind::numbers, 0, {everywhere}}; }
  static Start each_at(std::vector<double> copies) { return {Kind::numbers, 0, std::move(copies)}; }
  static Start uniform(double size) { return {Kind::uniform, size, {}}; }
  static Start normal(double size) { return {Kind::normal, size, {}}; }
};

/// One learned number array of a stage. The array of a whole call has the copies as leading axes:
/// call: shape, batch: [B, shape], head: [H, shape], kv_head: [Hkv, shape], batch_head: [B, H, shape].
struct ParameterSpec {
  std::string name;
  std::vector<int> shape;  // of ONE copy
  Per per = Per::call;
  Start start = {};  // may follow from the shape of the call that a module is made for (num_tokens)
  /// Too large for a gradient slot per head: `grad` is the real memory, and heads that share it run one after the
  /// other.
  bool in_place = false;
  /// Elements of one copy.
  std::ptrdiff_t size() const {
    std::ptrdiff_t n = 1;
    for (int s : shape) n *= s;
    return n;
  }
};

/// This head's part of a parameter: += into grad. grad is null in a forward pass.
template <class T>
struct Parameter {
  const T* value = nullptr;
  T* grad = nullptr;
};

/// What a stage is given beside the tile.
template <class T>
struct Call {
  std::span<const Parameter<T>> parameter;  // in the order of parameters()
  std::vector<T>* memory = nullptr;
  kernels::Upcoming* ahead = nullptr;  // of the driver: what product() and add_product() may fetch meanwhile
  /// n numbers of the driver's memory, not initialised, until the call returns.
  T* scratch(std::size_t n) {
    if (memory->size() < n) memory->resize(n);
    return memory->data();
  }
};

enum class Side : std::uint8_t { query, key };
/// What a mask says of an area: tile skipped | bits asked | no bits asked.
enum class Cover : std::uint8_t { none, partial, full };
/// Keys begin .. end-1.
struct Range {
  int begin = 0, end = 0;
};
/// How a normalizer wants its tiles; whole_rows: all visited keys of a block of queries as one tall tile.
enum class Walk : std::uint8_t { any, last_key_first, whole_rows };

/// One tile's rows after position and row map. Query features lie with the queries in the lanes; as rows too in a
/// backward.
template <class T>
struct Features {
  Matrix<const T> query;       // [F][queries]
  Matrix<const T> query_rows;  // [queries][F], backward only
  Matrix<const T> key;         // [keys][F]
  Matrix<const T> logits;      // [keys][queries], backward of a score that keeps them; 0 at hidden pairs
};
/// Where a score adds its gradients.
template <class T>
struct DFeatures {
  Matrix<T> query;  // [F][queries], +=
  Matrix<T> key;    // [keys][F], +=
};

/// One number per query of the block, all of the driver's memory. The first four are the normalizer's own: zero at the
/// start of a block's forward and of its backward.
template <class T>
struct Rows {
  int queries = 0;
  T *max = nullptr, *sum = nullptr, *first = nullptr, *second = nullptr;
  T* factor = nullptr;          // forward: what the output accumulated so far is multiplied by
  T* stat = nullptr;            // finish: what a backward needs to know of the row (lse, threshold)
  T* delta = nullptr;           // backward: dout . out - dlse
  T* mass = nullptr;            // finish, with statistics: what a sink took, 0 .. 1
  const T* entropy = nullptr;   // backward, with an incoming gradient of the entropy only: the row's entropy in nats
  const T* dentropy = nullptr;  // and that gradient; both null otherwise
  bool statistics = false;      // forward: accumulate first and second too, without changing a bit of anything else
};

/// What all contracts share.
struct Stage {
  virtual ~Stage() = default;
  /// The stage's name in recipes and tables; "user" if the struct has no static member `name`.
  virtual std::string_view name() const = 0;
  /// Learned arrays. Default: none.
  virtual std::vector<ParameterSpec> parameters(const AttendShape&) const = 0;
  /// Throws Error if the options do not fit the shape. Default: nothing.
  virtual void check(const AttendShape&) const = 0;
  /// The wrapped struct if it is of this type, else null.
  virtual const void* as(const std::type_info& type) const = 0;
};

/// Maps rows once, not pairs: Position is this and nothing else; Score is this and its two tile functions.
template <class T>
struct RowMap : Stage {
  /// Features per row. Default 0: rows are used where they lie and map is not called.
  virtual int width(Side, int dim) const = 0;
  /// rows [n][dim] -> out [n][width]. On the key side only `call` and `kv_head` parameters mean anything.
  virtual void map(Side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>&) const = 0;
  /// drows += what dout says.
  virtual void map_backward(Side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                            Call<T>&) const = 0;
};
template <class T>
struct Position : RowMap<T> {};
template <class T>
struct Score : RowMap<T> {
  /// The logits are products of the features and nothing else, so that `backward` may be left out, pair by pair, where
  /// dx is 0. Default false.
  virtual bool is_product() const = 0;
  /// Backward wants what logits() gave: a copy waits in Features::logits. Default false.
  virtual bool keeps_logits() const = 0;
  /// x [keys][queries] is overwritten.
  virtual void logits(const Features<T>&, Tile<T>& x, Call<T>&) const = 0;
  virtual void backward(const Features<T>&, const Tile<T>& dx, const DFeatures<T>&, Call<T>&) const = 0;
};

/// Any function of one logit, its indices and parameters. Biases chain in the order given.
template <class T>
struct Bias : Stage {
  /// Whether the derivative depends on the logit, so that `saved` is wanted. Default false.
  virtual bool saves() const = 0;
  /// saved: null in a forward; else a tile to fill with what backward wants. x gets the same bits either way.
  virtual void apply(Tile<T>& x, Tile<T>* saved, Call<T>&) const = 0;
  /// dx: gradient after the bias in, before the bias out.
  virtual void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>&) const = 0;
};

/// Sees indices, answers in bits, touches no number: so it has no scalar, and no NaN passes it.
struct Mask {
  virtual ~Mask() = default;
  virtual std::string_view name() const = 0;
  virtual void check(const AttendShape&) const = 0;
  virtual const void* as(const std::type_info& type) const = 0;
  /// Keys outside are never visited. Default: all. May reach beyond the sequence; the driver clips it.
  virtual Range keys(const Area& queries) const = 0;
  /// Default: partial.
  virtual Cover cover(const Area&) const = 0;
  /// rows[j] bit i = 1: query area.query + i sees key area.key + j. Bits past area.queries are ignored.
  virtual void visible(const Area&, std::uint64_t* rows) const = 0;
};

/// Logits to weights. Hidden logits arrive as -inf and must become exactly 0.
template <class T>
struct Normalizer : Stage {
  virtual Walk walk() const = 0;  // default any
  /// stat is a log-sum-exp, rows.first and second are its moments, and incoming gradients of lse and entropy are
  /// served.
  virtual bool gives_lse() const = 0;  // default false
  /// Most weights are exactly 0: products with value look at the others only. Default: support() is there.
  virtual bool is_sparse() const = 0;
  /// Whether support() is there.
  virtual bool has_support() const = 0;
  /// Where most gradients of the logits are 0 with the weights: bit i of pairs[j] says whether query i weighs key j,
  /// from the logits and rows.stat; a NaN counts as a weight. `sweep` and `backward` then find 0 in dp at all other
  /// pairs. Default: none.
  virtual void support(const Tile<T>& x, const Rows<T>&, Call<T>&, std::uint64_t* pairs) const = 0;
  /// x: logits -> weights, up to a factor per row that finish knows; writes rows.factor.
  virtual void forward(Tile<T>& x, Rows<T>&, Call<T>&) const = 0;
  /// After the last tile: rows.factor multiplies the output, rows.stat is kept.
  virtual void finish(Rows<T>&, Call<T>&) const = 0;
  /// A walk of its own before the walk of backward. Default: none.
  virtual bool sweeps() const = 0;
  virtual void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>&, Call<T>&) const = 0;
  /// delta may be replaced; a place for a sink's gradient. Default: nothing.
  virtual void begin_backward(Rows<T>&, Call<T>&) const = 0;
  /// x: logits -> probs; dp: dprobs -> dlogits.
  virtual void backward(Tile<T>& x, Tile<T>& dp, Rows<T>&, Call<T>&) const = 0;
};

}  // namespace attune

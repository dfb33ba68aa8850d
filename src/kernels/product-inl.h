// The one product of attention: "broadcast A times vector B", c[m][n] (+)= sum_k a[m * am + k * ak] * b[k * bk + n].
//
// Rows of b and c are contiguous; a is read by scalar broadcast with any two strides, so nothing is ever packed or
// transposed for it. All products of forward and backward are of this kind: S^T = K Q^T, O^T = V^T P^T, dV = P dO, ...
// A block of rows x vectors of c stays in registers while k runs; the shape of the block is chosen per instruction set:
// enough independent sums to hide the latency of the multiply-add (8 to 12 on AVX2, 16 and more on AVX-512), few enough
// to leave registers for b and the broadcast. Each sum is taken in the order of k, so the result does not depend on the
// block: a product cut in any way along m and n gives equal bits.
// Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_PRODUCT_INL_H_
#undef ATTUNE_KERNELS_PRODUCT_INL_H_
#else
#define ATTUNE_KERNELS_PRODUCT_INL_H_
#endif

#include <limits>

#include "kernels/upcoming.hpp"
#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// What happens to c.
enum class Into {
  overwrite,  // c = ab
  add,        // c = c + ab
  begin,      // c = start[n] + ab: a bias, read once per block
  rescale,    // c = c * factor[n] + ab: the online softmax's correction, fused into the load of the accumulator
  weights,    // c = 2^(start[n] + ab), and sum[n] += c[m][n] over all m
  moments     // the same, and Moments of the columns
};

/// Of a column of weights 2^x: sums of 2^x x and 2^x x^2, and the extremes of x - start. In memory from `at` on, each
/// `stride` numbers behind the one before. A multiply, a multiply-add and what runs beside them, a vector of weights.
template <class T>
struct Moments {
  Vec<T> first, second, low, high;

  HWY_INLINE Moments(const T* at, std::ptrdiff_t stride)
      : first(load(at)),
        second(load(at + stride)),
        low(set(std::numeric_limits<T>::infinity())),
        high(set(-std::numeric_limits<T>::infinity())) {}
  /// 2^-2000 is 0 and its products with 2000 are too, where -inf would give NaN.
  static HWY_INLINE Vec<T> least() { return set(T(-2000)); }
  /// Of finite x.
  HWY_INLINE void add(Vec<T> weight, Vec<T> x) {
    const Vec<T> product = hn::Mul(weight, x);
    first = hn::Add(first, product);
    second = hn::MulAdd(product, x, second);
    low = hn::Min(low, x);
    high = hn::Max(high, x);
  }
  /// The same where some lanes are hidden: their weight is 0, their x may be anything. Equal bits elsewhere.
  template <class Mask>
  HWY_INLINE void add_seen(Vec<T> weight, Vec<T> x, Mask seen) {
    const Vec<T> p = hn::Max(hn::IfThenElse(seen, x, least()), least()), product = hn::Mul(weight, p);
    first = hn::Add(first, product);
    second = hn::MulAdd(product, p, second);
    low = hn::IfThenElse(seen, hn::Min(low, x), low);
    high = hn::IfThenElse(seen, hn::Max(high, x), high);
  }
  HWY_INLINE void put(T* at, std::ptrdiff_t stride, Vec<T> start) const {
    store(first, at);
    store(second, at + stride);
    store(hn::Min(load(at + 2 * stride), hn::Sub(low, start)), at + 2 * stride);
    store(hn::Max(load(at + 3 * stride), hn::Sub(high, start)), at + 3 * stride);
  }
};
/// Of arrays side by side, how many lie between a row's sum and the first of its moments.
constexpr int kMomentsBehind = 5;

/// Registers that one block may fill with sums.
#if HWY_TARGET == HWY_AVX3
constexpr int kMaxVectors = 4;
constexpr int block_rows(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : vectors == 2 ? 8 : 12; }
#elif HWY_TARGET == HWY_NEON
constexpr int kMaxVectors = 4;
constexpr int block_rows(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 6 : 8; }
#elif HWY_TARGET == HWY_SCALAR
constexpr int kMaxVectors = 2;
constexpr int block_rows(int) { return 4; }
#else  // 16 registers
constexpr int kMaxVectors = 2;
constexpr int block_rows(int vectors) { return vectors == 2 ? 6 : 12; }
#endif

/// Whether all shapes of remainders are compiled, or as few as are needed: each is two hundred lines of machine code
/// for every way into c, and float64 and the baseline set are where nobody waits for the last tenth.
template <class T>
constexpr bool kAllBlocks = sizeof(T) == 4 && HWY_TARGET != HWY_STATIC_TARGET;
template <class T>
constexpr int kMostVectors = kAllBlocks<T> ? kMaxVectors : 2;

/// kRows x kVectors registers of c. With kPartial the last vector has only `last` lanes in b and c.
/// `lanes` points at start or factor for these columns (begin, rescale), padded to whole vectors; for weights at sum,
/// with start cm numbers behind, and moments kMomentsBehind cm.
template <int kRows, int kVectors, Into kInto, bool kPartial, class T>
HWY_INLINE void product_block(int k, const T* HWY_RESTRICT a, std::ptrdiff_t am, std::ptrdiff_t ak,
                              const T* HWY_RESTRICT b, std::ptrdiff_t bk, T* HWY_RESTRICT c, std::ptrdiff_t cm,
                              [[maybe_unused]] T* lanes, [[maybe_unused]] int last) {
  constexpr int kL = kLaneCount<T>;
  const auto read = [&](const T* row, int j) HWY_ATTR {
    if constexpr (kPartial) {
      if (j == kVectors - 1) return load_first(row + j * kL, last);
    }
    return load(row + j * kL);
  };
  Vec<T> sum[kRows][kVectors];
  ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      if constexpr (kInto == Into::add) {
        sum[i][j] = read(c + i * cm, j);
      } else if constexpr (kInto == Into::begin) {
        sum[i][j] = load(lanes + j * kL);
      } else if constexpr (kInto == Into::weights || kInto == Into::moments) {
        sum[i][j] = load(lanes + cm + j * kL);
      } else if constexpr (kInto == Into::rescale) {
        sum[i][j] = hn::Mul(load(lanes + j * kL), read(c + i * cm, j));
      } else {
        sum[i][j] = zero<T>();
      }
    }
  }
  for (int e = 0; e < k; ++e) {
    Vec<T> row[kVectors];
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) row[j] = read(b, j);
    ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
      Vec<T> x = set(a[i * am]);
      if constexpr (kVectors > 1) keep_in_register(x);
      ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(x, row[j], sum[i][j]);
    }
    a += ak;
    b += bk;
  }
  if constexpr (kInto == Into::weights) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      T* const at = lanes + j * kL;
      Vec<T> total = load(at);
      ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
        const Vec<T> weight = exp2_of_finite(sum[i][j]);
        total = hn::Add(total, weight);
        store(weight, c + i * cm + j * kL);
      }
      store(total, at);
    }
    return;
  }
  if constexpr (kInto == Into::moments) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      T* const at = lanes + j * kL;
      Vec<T> total = load(at);
      Moments<T> moments(at + kMomentsBehind * cm, cm);
      ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
        const Vec<T> weight = exp2_of_finite(sum[i][j]);
        total = hn::Add(total, weight);
        moments.add(weight, sum[i][j]);
        store(weight, c + i * cm + j * kL);
      }
      store(total, at);
      moments.put(at + kMomentsBehind * cm, cm, load(at + cm));
    }
    return;
  }
  ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) {
      if (kPartial && j == kVectors - 1) {
        store_first(sum[i][j], c + i * cm + j * kL, last);
      } else {
        store(sum[i][j], c + i * cm + j * kL);
      }
    }
  }
}

/// All m rows of kVectors columns of vectors: full blocks and some with one row less, so that none is thin, which would
/// wait for b: 64 rows as 9 x 6 + 2 x 5 run at 97.8 % of the peak, as 10 x 6 + 4 at 95.4 %. A few rows: what fits.
template <int kVectors, Into kInto, bool kPartial, class T>
HWY_NOINLINE void product_columns(int m, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                                  std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, T* lanes, int last, Upcoming* ahead) {
  constexpr int kRows = block_rows(kVectors);
  constexpr int kLess = !kAllBlocks<T> || kRows <= 4 ? kRows : kRows == 12 ? 8 : kRows - 1;
  // m = kRows x + kLess y with the least y; for 12 and 8, up to three rows.
  const int y = kRows == 12 ? m % 12 / 4 * 2 % 3 : (kRows - m % kRows) % kRows;
  const int thinner = kLess < kRows && y * kLess <= m ? y * kLess : 0;
  int i = 0;
  for (; i + kRows <= m - thinner; i += kRows) {
    if (ahead) ahead->fetch();
    product_block<kRows, kVectors, kInto, kPartial>(k, a + i * am, am, ak, b, bk, c + i * cm, cm, lanes, last);
  }
  if (ahead) ahead->fetch();
  if constexpr (kLess < kRows) {
    for (; i + kLess <= m; i += kLess)
      product_block<kLess, kVectors, kInto, kPartial>(k, a + i * am, am, ak, b, bk, c + i * cm, cm, lanes, last);
  }
  for (; i + 2 <= m; i += 2)
    product_block<2, kVectors, kInto, kPartial>(k, a + i * am, am, ak, b, bk, c + i * cm, cm, lanes, last);
  if (i < m) product_block<1, kVectors, kInto, kPartial>(k, a + i * am, am, ak, b, bk, c + i * cm, cm, lanes, last);
}

/// Columns that one block takes of n: two even halves rather than a full block and a thin one, which waits for loads.
template <class T>
HWY_INLINE int block_vectors(int n) {
  const int vectors = (n + kLaneCount<T> - 1) / kLaneCount<T>;
  return vectors <= kMostVectors<T> ? vectors : vectors < 2 * kMostVectors<T> ? (vectors + 1) / 2 : kMostVectors<T>;
}

/// All columns, block after block.
template <Into kInto, bool kWhole, class T>
HWY_INLINE void product_pieces(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                               std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, T* lanes, Upcoming* ahead) {
  constexpr int kL = kLaneCount<T>;
  int j = 0;  // columns done
  while (j < n) {
    const int take = block_vectors<T>(n - j);
    const int columns = take * kL < n - j ? take * kL : n - j;
    const int last = columns - (take - 1) * kL;
    T* l = lanes ? lanes + j : nullptr;
#define ATTUNE_COLUMNS(V)                                                                      \
  if (kWhole || (kAllBlocks<T> && last == kL)) {                                               \
    product_columns<V, kInto, false>(m, k, a, am, ak, b + j, bk, c + j, cm, l, last, ahead);   \
  } else {                                                                                     \
    product_columns<V, kInto, !kWhole>(m, k, a, am, ak, b + j, bk, c + j, cm, l, last, ahead); \
  }
    if (take == 1) {
      ATTUNE_COLUMNS(1)
    } else if (take == 2 || kMostVectors<T> == 2) {
      ATTUNE_COLUMNS(2)
    } else if (take == 3) {
      ATTUNE_COLUMNS((kMostVectors<T> > 2 ? 3 : 2))
    } else {
      ATTUNE_COLUMNS((kMostVectors<T> > 2 ? 4 : 2))
    }
#undef ATTUNE_COLUMNS
    j += columns;
  }
}

template <Into kInto, bool kWhole, class T>
HWY_NOINLINE void product_called(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                                 std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, T* lanes, Upcoming* ahead) {
  product_pieces<kInto, kWhole>(m, n, k, a, am, ak, b, bk, c, cm, lanes, ahead);
}

/// c[m][n] (+)= sum_k a[m * am + k * ak] * b[k * bk + n]; b, c are read and written at columns 0 .. n-1 only.
/// lanes: start, factor or sum [n], padded to whole vectors; null for overwrite and add.
/// ahead: rows to fetch meanwhile; may be null. kWhole: n is a multiple of the lanes, which halves the code.
template <Into kInto, bool kWhole = false, class T>
HWY_INLINE void product_into(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                             std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, T* lanes = nullptr,
                             Upcoming* ahead = nullptr) {
  if constexpr (kAllBlocks<T>) {
    product_pieces<kInto, kWhole>(m, n, k, a, am, ak, b, bk, c, cm, lanes, ahead);
  } else {
    product_called<kInto, kWhole>(m, n, k, a, am, ak, b, bk, c, cm, lanes, ahead);
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle

// Every mask, a line each; & | ! join them.
#pragma once
#include <tuple>

#include "attune/attention/mask/big_bird.hpp"
#include "attune/attention/mask/block_sparse.hpp"
#include "attune/attention/mask/both.hpp"
#include "attune/attention/mask/causal.hpp"
#include "attune/attention/mask/dense.hpp"
#include "attune/attention/mask/dilated.hpp"
#include "attune/attention/mask/document.hpp"
#include "attune/attention/mask/either.hpp"
#include "attune/attention/mask/local_m.hpp"
#include "attune/attention/mask/longformer.hpp"
#include "attune/attention/mask/not.hpp"
#include "attune/attention/mask/padding.hpp"
#include "attune/attention/mask/prefix_lm.hpp"
#include "attune/attention/mask/random.hpp"
#include "attune/attention/mask/sparse_transformer.hpp"
#include "attune/attention/mask/visible_if.hpp"
#include "attune/attention/mask/window.hpp"

namespace attune {
using AllMasks = std::tuple<Causal, Window, Padding, DenseMask, Dilated, PrefixLm, Document, BlockSparse, BigBird,
                            Longformer, SparseStrided, SparseFixed, LocalM, RandomMask, VisibleIf, Both, Either, Not>;
}  // namespace attune

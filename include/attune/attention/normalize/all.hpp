// Every normalizer, a line each.
#pragma once
#include <tuple>

#include "attune/attention/normalize/sigmoid.hpp"
#include "attune/attention/normalize/softmax.hpp"
#include "attune/attention/normalize/softmax_with_sink.hpp"
#include "attune/attention/normalize/sparsemax.hpp"

namespace attune {
using AllNormalizers = std::tuple<Softmax, SoftmaxWithSink, Sigmoid, Sparsemax>;
}  // namespace attune

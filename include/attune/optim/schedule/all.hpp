// Every schedule, a line each: from this list follow the names in recipes and JSON, and the tests.
#pragma once
#include <tuple>

#include "attune/optim/schedule/constant.hpp"
#include "attune/optim/schedule/cosine.hpp"
#include "attune/optim/schedule/inverse_sqrt.hpp"
#include "attune/optim/schedule/linear.hpp"
#include "attune/optim/schedule/noam.hpp"
#include "attune/optim/schedule/wsd.hpp"

namespace attune::optim {

using AllSchedules = std::tuple<  //
    schedule::Constant,           //
    schedule::Linear,             //
    schedule::Cosine,             //
    schedule::Noam,               //
    schedule::InverseSqrt,        //
    schedule::Wsd>;

}  // namespace attune::optim

// Every schedule, a line each: from this list follow the names in recipes and JSON, the tests and the docs.
#pragma once
#include <tuple>

#include "attune/optim/schedule/chained.hpp"
#include "attune/optim/schedule/constant.hpp"
#include "attune/optim/schedule/constant_lr.hpp"
#include "attune/optim/schedule/cosine.hpp"
#include "attune/optim/schedule/cosine_annealing.hpp"
#include "attune/optim/schedule/cosine_min_lr_warm.hpp"
#include "attune/optim/schedule/cosine_restarts.hpp"
#include "attune/optim/schedule/cyclic.hpp"
#include "attune/optim/schedule/exponential.hpp"
#include "attune/optim/schedule/interpolate.hpp"
#include "attune/optim/schedule/inverse_sqrt.hpp"
#include "attune/optim/schedule/inverse_time.hpp"
#include "attune/optim/schedule/linear.hpp"
#include "attune/optim/schedule/linear_lr.hpp"
#include "attune/optim/schedule/lr_range.hpp"
#include "attune/optim/schedule/multistep.hpp"
#include "attune/optim/schedule/noam.hpp"
#include "attune/optim/schedule/onecycle.hpp"
#include "attune/optim/schedule/onecycle_optax.hpp"
#include "attune/optim/schedule/per_group.hpp"
#include "attune/optim/schedule/piecewise_constant.hpp"
#include "attune/optim/schedule/plateau.hpp"
#include "attune/optim/schedule/polynomial.hpp"
#include "attune/optim/schedule/sequential.hpp"
#include "attune/optim/schedule/sgdr.hpp"
#include "attune/optim/schedule/step.hpp"
#include "attune/optim/schedule/tanh.hpp"
#include "attune/optim/schedule/warmup_cosine.hpp"
#include "attune/optim/schedule/warmup_exp.hpp"
#include "attune/optim/schedule/wsd.hpp"

namespace attune::optim {

using AllSchedules = std::tuple<  //
    schedule::Constant,           //
    schedule::Linear,             //
    schedule::Cosine,             //
    schedule::Noam,               //
    schedule::InverseSqrt,        //
    schedule::Wsd,                //
    schedule::CosineMinLrWarm,    //
    schedule::CosineRestarts,     //
    schedule::Polynomial,         //
    schedule::Step,               //
    schedule::MultiStep,          //
    schedule::Exponential,        //
    schedule::InverseTime,        //
    schedule::LinearLr,           //
    schedule::ConstantLr,         //
    schedule::CosineAnnealing,    //
    schedule::Sgdr,               //
    schedule::OneCycle,           //
    schedule::OneCycleOptax,      //
    schedule::Cyclic,             //
    schedule::PiecewiseConstant,  //
    schedule::Interpolate,        //
    schedule::Tanh,               //
    schedule::WarmupCosine,       //
    schedule::WarmupExp,          //
    schedule::LrRange,            //
    schedule::ReduceOnPlateau,    //
    schedule::Sequential,         //
    schedule::Chained,            //
    schedule::PerGroup>;

}  // namespace attune::optim

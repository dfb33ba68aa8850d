// Every optimizer.
#pragma once
#include "attune/optim/adam.hpp"
#include "attune/optim/clip.hpp"
#include "attune/optim/schedule.hpp"
#include "attune/optim/sgd.hpp"

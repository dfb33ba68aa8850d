// The umbrella of attune/optim.
#pragma once
#include "attune/optim/all.hpp"

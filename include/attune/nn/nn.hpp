// The whole layer: modules, initialisers, saving and loading.
#pragma once
#include "attune/nn/all.hpp"

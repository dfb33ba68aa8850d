# What each layer needs from outside, all of it in Debian 12. A layer that needs nothing has no line.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)

set(ATTUNE_NEEDS_base Threads::Threads fmt::fmt PkgConfig::HWY)
set(ATTUNE_NEEDS_io nlohmann_json::nlohmann_json)
set(ATTUNE_NEEDS_optim nlohmann_json::nlohmann_json)

if(ATTUNE_BUILD_TRAIN)
  pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
  pkg_check_modules(GUMBO REQUIRED IMPORTED_TARGET gumbo)
  pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
  pkg_check_modules(LIBMD REQUIRED IMPORTED_TARGET libmd)
  find_package(ZLIB REQUIRED)
  find_package(tomlplusplus REQUIRED)
  find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)
  set(ATTUNE_NEEDS_train PkgConfig::SENTENCEPIECE ${SENTENCEPIECE_TRAIN_LIBRARY} PkgConfig::GUMBO PkgConfig::UTF8PROC
    PkgConfig::LIBMD ZLIB::ZLIB tomlplusplus::tomlplusplus nlohmann_json::nlohmann_json)
  find_package(CLI11 REQUIRED)
  set(ATTUNE_NEEDS_program CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json)
endif()
if(ATTUNE_BUILD_BENCH)
  find_package(benchmark REQUIRED)
  set(ATTUNE_NEEDS_bench benchmark::benchmark)
endif()

# Tests whose folder is not a layer's: the layer that they see.
set(ATTUNE_TEST_LAYER_contract attention)
set(ATTUNE_TEST_LAYER_golden models)
set(ATTUNE_TEST_LAYER_docs models)
set(ATTUNE_TEST_LAYER_cli train)

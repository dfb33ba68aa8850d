# Tests of the project itself: layers, documents, installation, the page in a browser. They join ctest, so that one
# command runs everything and one summary tells.
find_program(ATTUNE_PYTHON python3 REQUIRED)
add_test(NAME layers COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tools/check_layers.py)
add_test(NAME layers.finds_mistakes COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tests/docs/check_layers_test.py)
add_test(NAME docs.links COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tools/check_docs.py)
add_test(NAME bench COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tests/docs/bench_test.py)
add_test(NAME dev COMMAND ${PROJECT_SOURCE_DIR}/tests/docs/dev_test.sh)
include(${PROJECT_SOURCE_DIR}/cmake/docs.cmake)

# examples/<name>.cpp: one program each, which returns 0 only if what it shows is true.
file(GLOB examples CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*.cpp)
foreach(example ${examples})
  get_filename_component(name ${example} NAME_WE)
  attune_umbrella_program(example_${name} ${example})
  add_test(NAME examples.${name} COMMAND example_${name})
endforeach()

if(ATTUNE_SANITIZE)
  return()  # a consumer would have to be built with the same sanitizer
endif()

# attune_consumer_test(name way build): see tests/install/run.cmake
function(attune_consumer_test name way build)
  add_test(NAME install.${name} ${ARGN} COMMAND ${CMAKE_COMMAND} -DWAY=${way} -DBUILD=${build} -DTRAIN=${ATTUNE_BUILD_TRAIN}
    -DSOURCE=${PROJECT_SOURCE_DIR} -DBINARY=${PROJECT_BINARY_DIR} -DCOMPILER=${CMAKE_CXX_COMPILER}
    "-DLAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}" -P ${PROJECT_SOURCE_DIR}/tests/install/run.cmake)
endfunction()
attune_consumer_test(find_package find_package ON)
attune_consumer_test(add_subdirectory add_subdirectory OFF)
# Building attune a second time takes minutes: with --full only. The two share a folder, so they take turns.
attune_consumer_test(add_subdirectory_builds add_subdirectory ON CONFIGURATIONS full)
set_tests_properties(install.add_subdirectory install.add_subdirectory_builds PROPERTIES RESOURCE_LOCK consumer)

if(ATTUNE_BUILD_TRAIN)
  add_test(NAME browser CONFIGURATIONS full
    COMMAND ${PROJECT_SOURCE_DIR}/tools/check_page.sh attention ${PROJECT_BINARY_DIR}/attention_sample.html ${PROJECT_BINARY_DIR})
  add_test(NAME browser.dashboard CONFIGURATIONS full
    COMMAND ${PROJECT_SOURCE_DIR}/tools/check_page.sh dashboard ${PROJECT_BINARY_DIR}/dashboard_sample.html ${PROJECT_BINARY_DIR})
  set_tests_properties(browser browser.dashboard PROPERTIES DEPENDS train.scalar)  # which writes the pages
  if(TARGET attune_program)
    add_test(NAME docs.mechanisms
      COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tools/mechanisms_table.py $<TARGET_FILE:attune_program> --check)
    add_test(NAME tensorboard CONFIGURATIONS full COMMAND ${ATTUNE_PYTHON} ${PROJECT_SOURCE_DIR}/tools/check_tensorboard.py
      $<TARGET_FILE:attune_program> ${PROJECT_BINARY_DIR}/tensorboard)
    set_tests_properties(tensorboard PROPERTIES SKIP_RETURN_CODE 77)  # where its package cannot be installed
  endif()
endif()

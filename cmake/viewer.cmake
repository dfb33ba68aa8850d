# The attention page lives in viewer/ as three plain files and travels inside the library, so that the program needs no
# data folder at run time. Editing one of them configures again, which writes the generated source again.
foreach(part index.html viewer.css viewer.js)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/viewer/${part})
endforeach()
file(READ ${PROJECT_SOURCE_DIR}/viewer/index.html ATTUNE_VIEWER_HTML)
file(READ ${PROJECT_SOURCE_DIR}/viewer/viewer.css ATTUNE_VIEWER_CSS)
file(READ ${PROJECT_SOURCE_DIR}/viewer/viewer.js ATTUNE_VIEWER_JS)
configure_file(${PROJECT_SOURCE_DIR}/cmake/viewer_files.cpp.in ${PROJECT_BINARY_DIR}/generated/viewer_files.cpp @ONLY)
target_sources(attune_layer_train PRIVATE ${PROJECT_BINARY_DIR}/generated/viewer_files.cpp)

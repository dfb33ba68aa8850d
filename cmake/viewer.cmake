# The pages live in viewer/ as plain files and travel inside the library, so that the program needs no data folder at run
# time. Editing one of them configures again, which writes the generated source again.
foreach(part VIEWER_HTML=index.html VIEWER_CSS=viewer.css VIEWER_JS=viewer.js
             DASHBOARD_HTML=dashboard.html DASHBOARD_CSS=dashboard.css DASHBOARD_TEXT=dashboard_text.js
             DASHBOARD_CHARTS=dashboard_charts.js DASHBOARD_MAIN=dashboard.js)
  string(REPLACE "=" ";" part ${part})
  list(GET part 0 name)
  list(GET part 1 file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/viewer/${file})
  file(READ ${PROJECT_SOURCE_DIR}/viewer/${file} ATTUNE_${name})
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/viewer_files.cpp.in ${PROJECT_BINARY_DIR}/generated/viewer_files.cpp @ONLY)
target_sources(attune_layer_train PRIVATE ${PROJECT_BINARY_DIR}/generated/viewer_files.cpp)

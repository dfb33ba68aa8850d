# cmake --install: static libraries, public headers, the program, and what find_package(attune) reads.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(ATTUNE_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/attune)
install(TARGETS attune EXPORT attune ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(ATTUNE_BUILD_TRAIN)
  install(TARGETS attune_train EXPORT attune_train
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT attune_train NAMESPACE attune:: FILE attune_train-targets.cmake DESTINATION ${ATTUNE_CMAKE_DIR})
  if(TARGET attune_program)
    install(TARGETS attune_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endif()
install(EXPORT attune NAMESPACE attune:: FILE attune-targets.cmake DESTINATION ${ATTUNE_CMAKE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/attune DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/attuneConfig.cmake.in ${PROJECT_BINARY_DIR}/attuneConfig.cmake
  INSTALL_DESTINATION ${ATTUNE_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/attuneConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/attuneConfig.cmake ${PROJECT_BINARY_DIR}/attuneConfigVersion.cmake
  DESTINATION ${ATTUNE_CMAKE_DIR})

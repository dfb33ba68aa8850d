# Builds for 64-bit ARM on another machine and runs the tests under qemu's user emulation: how the NEON kernels are
# tested where no ARM processor is. Only the core is built; of its dependencies just the headers are taken, the host's own.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY NEVER)
set(ATTUNE_HOST_HEADERS ON)

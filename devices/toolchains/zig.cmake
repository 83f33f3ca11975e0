# zig as the compiler: one static musl binary for every kernel, Raspberry Pi OS and Android alike.
# PLM_EDGE_TOOLS holds scripts that name the target: cmake takes one program per tool. They turn
# -march into zig's word for it; the files that it is not said to are plain ARMv8.0.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PLM_EDGE_TOOLS)

set(CMAKE_C_COMPILER "${PLM_EDGE_TOOLS}/clang")
set(CMAKE_CXX_COMPILER "${PLM_EDGE_TOOLS}/clang++")
set(CMAKE_ASM_COMPILER "${PLM_EDGE_TOOLS}/clang")
set(CMAKE_AR "${PLM_EDGE_TOOLS}/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${PLM_EDGE_TOOLS}/ranlib" CACHE FILEPATH "")

# Nothing of this machine may slip in.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

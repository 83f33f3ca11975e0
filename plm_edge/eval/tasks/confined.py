"""Runs the program on stdin without any rights; started by `sandbox.py` as a script of its own.

What is needed from the standard library is imported first. Then a seccomp filter leaves only
the system calls that computing takes: no opening of files, no sockets, no processes. The verdict
is the last line it prints. A program that set out to forge it could; none can reach further.
"""

import contextlib
import ctypes
import io
import json
import os
import platform
import resource
import struct
import sys

for _name in (
    *("bisect", "collections", "copy", "datetime", "decimal", "enum", "fractions", "functools"),
    *("heapq", "itertools", "math", "operator", "random", "re", "statistics", "string"),
    *("textwrap", "typing", "unicodedata", "dataclasses", "abc", "traceback"),
):
    __import__(_name)

MEMORY_LIMIT_BYTES = 512 << 20
CPU_LIMIT_SECONDS = 5
OUTPUT_LIMIT_BYTES = 64 << 10
STDOUT = 1

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RETURN_ALLOW, RETURN_ERRNO, RETURN_KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM = 1
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF

# Audit number and the numbers of: read write close fstat lseek mmap mprotect munmap mremap brk
# madvise rt_sigaction rt_sigprocmask rt_sigreturn futex getrandom exit exit_group clock_gettime
# gettimeofday sched_yield getpid gettid
SYSTEM_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 25, 12, 28, 13, 14, 15, 202, 318, 60, 231, 228, 96, 24, 39, 186),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62, 222, 226, 215, 216, 214, 233, 134, 135, 139, 98, 278, 93, 94),
            *(113, 169, 124, 172, 178),
        ),
    ),
}


def filter_program(audit: int, allowed: tuple[int, ...]) -> bytes:
    """BPF: another architecture is killed, an allowed number passes, all else gets EPERM."""
    steps = [(LOAD_WORD, 0, 0, 4), (JUMP_EQUAL, 1, 0, audit), (RETURN, 0, 0, RETURN_KILL)]
    steps.append((LOAD_WORD, 0, 0, 0))
    for place, number in enumerate(allowed):
        steps.append((JUMP_EQUAL, len(allowed) - place, 0, number))
    steps.append((RETURN, 0, 0, RETURN_ERRNO | EPERM))
    steps.append((RETURN, 0, 0, RETURN_ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def confine() -> None:
    """Give up everything but computing; raises where the kernel does not let us."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_SECONDS, CPU_LIMIT_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if platform.machine() not in SYSTEM_CALLS:
        raise OSError(f"no list of system calls for {platform.machine()}")
    code = filter_program(*SYSTEM_CALLS[platform.machine()])
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the count of instructions, padding, a pointer
    header = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    pointer = ctypes.create_string_buffer(header, len(header))
    for words in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(pointer), 0, 0),
    ):
        if libc.prctl(*(ctypes.c_ulong(word) for word in words)) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refuses a seccomp filter")


def verdict_of(program: str) -> tuple[bool, str]:
    """Run the program in a namespace of its own, its prints thrown away."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(program, "answer", "exec"), {"__name__": "answer"})  # noqa: S102
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"
    return True, ""


def main() -> None:
    """Read, confine, run, answer."""
    program = sys.stdin.read()
    try:
        confine()
    except (OSError, ValueError) as error:
        passed, reason = False, f"cannot be confined: {error}"
    else:
        passed, reason = verdict_of(program)
    line = json.dumps({"passed": passed, "reason": reason}) + "\n"
    os.write(STDOUT, b"\n" + line.encode("ascii"))
    os._exit(0)


if __name__ == "__main__":
    main()

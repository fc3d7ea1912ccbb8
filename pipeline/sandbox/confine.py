"""Permanently revokes rights that a parser of untrusted documents never needs: opening sockets, and writing elsewhere.

Neither step needs privileges, so both work inside a container without capabilities. User namespaces, which `unshare` would
need, are refused there. The numbers are those of the kernel's headers: linux/landlock.h, linux/seccomp.h, linux/filter.h,
linux/audit.h, asm/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ALLOW = 0x7FFF0000
_SECCOMP_RET_ERRNO = 0x00050000

#: Machine -> the kernel's id for it, and its number of socket(2).
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
#: The same number on every machine. io_uring can open sockets without calling socket(2).
_IO_URING_SETUP = 425
#: Numbers from here on belong to another calling convention of x86_64.
_X32 = 0x40000000

# struct sock_filter: code, jump if true, jump if false, operand.
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_NOT_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFFSET_OF_NUMBER, _OFFSET_OF_MACHINE = 0, 4

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
#: Remove and create files, folders, links, pipes, sockets and devices: bits 4 to 12 of version 1.
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
#: Version of Landlock -> the right that it added: moving between folders, truncating.
_LATER_RIGHTS = {2: 1 << 13, 3: 1 << 14}
#: Version 6: no signals to processes outside, no abstract sockets.
_SCOPED, _SCOPED_SINCE = 0b11, 6

#: Options of prctl(2): the signal that this process gets when its parent ends; its name; and that it becomes the parent of
#: processes below it whose own parent has ended.
PDEATHSIG, NAME, CHILD_SUBREAPER = 1, 15, 36


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def prctl(option: int, value: object, further: object = 0) -> bool:
    """Call prctl(2) for this process; False where the Linux kernel refuses, and on other systems."""
    try:
        return bool(_libc().prctl(option, value, further, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def landlock_version() -> int:
    """Version of Landlock that the kernel offers; 0 without it (Linux before 5.13, other systems, disabled)."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)))


def forbid_sockets() -> bool:
    """Make every attempt to open a socket fail with EACCES, in this process and in all processes that it starts.

    Open sockets keep working. False where the kernel or the machine's architecture does not allow it.
    """
    if not sys.platform.startswith("linux") or platform.machine() not in _MACHINES:
        return False
    machine, socket = _MACHINES[platform.machine()]
    refuse = _SECCOMP_RET_ERRNO | errno.EACCES
    steps = [
        (_LOAD, 0, 0, _OFFSET_OF_MACHINE),
        (_JUMP_IF_EQUAL, 0, 5, machine),  # calls of 32-bit programs have other numbers
        (_LOAD, 0, 0, _OFFSET_OF_NUMBER),
        (_JUMP_IF_NOT_LESS, 3, 0, _X32),
        (_JUMP_IF_EQUAL, 2, 0, socket),
        (_JUMP_IF_EQUAL, 1, 0, _IO_URING_SETUP),
        (_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
        (_RETURN, 0, 0, refuse),
    ]
    program = _Program(len(steps), b"".join(struct.pack("=HBBI", *step) for step in steps))
    return _no_new_privileges() and prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def allow_writes_only_in(folders: Iterable[Path]) -> bool:
    """Make every change of the file system outside `folders` fail with EACCES, in this process and in those that it starts.

    Files that are open for writing stay writable, and so does /dev/null. False where the kernel does not allow it.
    Raises OSError when a folder cannot be opened.
    """
    version = landlock_version()
    if not version or not _no_new_privileges():
        return False
    rights = _WRITE_FILE | _CHANGE_FOLDER
    for since, right in _LATER_RIGHTS.items():
        rights |= right if version >= since else 0
    # handled_access_fs, handled_access_net, scoped; older kernels only know the first.
    attributes = struct.pack("=QQQ", rights, 0, _SCOPED) if version >= _SCOPED_SINCE else struct.pack("=Q", rights)
    ruleset = _libc().syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        allowed = [(folder, rights) for folder in folders] + [(Path(os.devnull), _WRITE_FILE)]
        return all(_allow(ruleset, path, right) for path, right in allowed) and (
            _libc().syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
        )
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> bool:
    """Add `rights` below `path` to the rules; return whether that succeeded."""
    handle = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, handle)
        return bool(_libc().syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0) == 0)
    finally:
        os.close(handle)


def _no_new_privileges() -> bool:
    """Meet the kernel's condition for both steps: no program started by this process gains rights, by setuid or otherwise."""
    return prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

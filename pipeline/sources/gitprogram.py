"""Calls the program git, without questions, hooks and protocols that are not wanted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, SourceError
from pipeline.sources.repositories import PROTOCOLS
from pipeline.text import one_line

#: Seconds for a call that only reads what is on this disk, and for one that asks a server without fetching.
READ_S, ASK_S = 120.0, 120.0

#: Variables that would have git work on another repository.
_OTHERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
           "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_CONFIG")  # fmt: skip

#: Options of every call. A transfer of less than a byte per second for a minute ends.
_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)

_CREDENTIALS = re.compile(r"(://)[^/\s@']*@")


@dataclass(frozen=True, slots=True)
class GitProgram:
    """How git is called."""

    credentials: Path | None = None  #: file of git-credential-store; None: what git is configured to use
    timeout_s: float = 600.0  #: of a fetch
    public_only: bool = False  #: refuse hosts with addresses that are not public, and requests that are sent elsewhere

    def command(self, folder: Path, *arguments: str) -> list[str]:
        """The command line of a call in a bare repository."""
        options = [*_OPTIONS, f"http.followRedirects={'false' if self.public_only else 'initial'}"]
        if self.credentials is not None:
            options += ["credential.helper=", f"credential.helper=store --file={shlex.quote(str(self.credentials))}"]
        return ["git", *(part for option in options for part in ("-c", option)), f"--git-dir={folder}", *arguments]

    def run(self, folder: Path, *arguments: str, timeout_s: float = READ_S) -> bytes:
        """The output of a call that succeeds.

        Raises ConfigError where git is not installed; SourceError with git's own words, without credentials, where it fails.
        """
        try:
            ended = subprocess.run(
                self.command(folder, *arguments), env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise not_installed() from error
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"git {arguments[0]} has not ended within {timeout_s:g} s") from error
        if ended.returncode:
            raise SourceError(f"git {arguments[0]}: {_said(ended.stderr) or f'exit status {ended.returncode}'}")
        return ended.stdout

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """A call that is read while it runs; raises ConfigError where git is not installed."""
        try:
            return subprocess.Popen(
                self.command(folder, *arguments), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise not_installed() from error


def not_installed() -> ConfigError:
    """The error where there is no git."""
    return ConfigError("git is not installed, and repositories are read with it; install it, on Debian with `apt-get install git`")


def environment() -> dict[str, str]:
    """The variables of git: those of this process but for our settings, which may be secrets, and other repositories."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("KB_") and name not in _OTHERS}
    found |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS), "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    found.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=30")
    return found


def _said(output: bytes) -> str:
    """The last lines that git wrote, on one line and without credentials."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return _CREDENTIALS.sub(r"\1****@", one_line(" ".join(lines[-3:])))[:500]

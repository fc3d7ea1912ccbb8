"""The container engine of this host and its memory; on a Mac that is the memory of Docker Desktop's virtual machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import HostError
from pipeline.host.command import output_of

#: Seconds for Docker Desktop to quit: half of them on request, the rest by force.
QUIT_S = 20.0

#: Seconds until its daemon must respond again.
START_S = 60.0

#: Seconds between two checks.
LOOK_S = 1.0

#: The virtual machine reports slightly less memory than it was given.
SLACK = 0.9

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that responds."""

    version: str
    memory_bytes: int  #: available to all its containers together
    cores: int
    desktop: bool  #: runs in its own virtual machine, whose memory is a setting


@dataclass(frozen=True, slots=True)
class Platform:
    """How to find, stop and start Docker Desktop on one operating system."""

    settings: tuple[str, ...]  #: files below the home folder, the newest format first
    stop: tuple[str, ...]
    kill: tuple[str, ...]
    start: tuple[str, ...]


PLATFORMS = {
    "Darwin": Platform(
        (
            "Library/Group Containers/group.com.docker/settings-store.json",
            "Library/Group Containers/group.com.docker/settings.json",
        ),
        ("osascript", "-e", 'quit app "Docker"'),
        ("pkill", "-9", "-f", "/Applications/Docker.app/"),
        ("open", "-g", "-a", "Docker"),
    ),
    "Linux": Platform(
        (".docker/desktop/settings-store.json", ".docker/desktop/settings.json"),
        ("systemctl", "--user", "stop", "docker-desktop"),
        ("systemctl", "--user", "kill", "--signal=KILL", "docker-desktop"),
        ("systemctl", "--user", "start", "docker-desktop"),
    ),
}


def engine() -> Engine | None:
    """The engine that `docker info` reports; None if there is none or it is not running."""
    try:
        said = json.loads(output_of(("docker", "info", "--format", "{{json .}}"), 10.0) or "")
        if not said.get("ServerVersion"):  # the client responds without an engine too
            return None
        return Engine(str(said["ServerVersion"]), int(said["MemTotal"]), int(said["NCPU"]),
                      "docker desktop" in str(said.get("OperatingSystem", "")).lower())  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Desktop:
    """The memory of Docker Desktop, a value in its settings file that takes effect only after a restart."""

    def __init__(self, say: Callable[[str], None], *, home: Path | None = None, system: str | None = None) -> None:
        """`say` is called with each step. Raises HostError if there is no Docker Desktop whose memory can be set."""
        self._say = say
        name = system or platform.system()
        found = PLATFORMS.get(name)
        if found is None:
            raise HostError(
                "on Windows Docker uses the memory of WSL: put `memory=10GB` below `[wsl2]` in .wslconfig in your "
                "user folder, then run `wsl --shutdown` and start Docker Desktop"
            )
        self._platform = found
        files = [(home or Path.home()) / part for part in found.settings]
        existing = [file for file in files if file.is_file()]
        if not existing:
            raise HostError(
                "Docker runs directly on this host, so there is no virtual machine to size: containers can use all of its memory"
                if name == "Linux"
                else f"Docker Desktop has no settings at {files[0]}: install it, start it once, and try again"
            )
        self.settings = existing[0]

    def memory_bytes(self) -> int:
        """Memory that the settings give the virtual machine; raises HostError if they cannot be read."""
        key, settings = self._read()
        return int(settings.get(key, 0)) * _MIB

    def set_memory(self, size: int) -> Path:
        """Give the virtual machine `size` bytes: back up and change the settings, quit, start, wait; return the backup.

        If the daemon does not come back, the settings are restored and Docker Desktop is started with them. Raises
        HostError, which says which step failed and what to do.
        """
        key, settings = self._read()
        backup = self.settings.with_name(f"{self.settings.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
        try:
            shutil.copy2(self.settings, backup)
        except OSError as error:
            raise HostError(f"cannot back up {self.settings}: {error.strerror}; nothing was changed") from error
        self._say(f"settings backed up to {backup}")
        try:
            self._write(settings | {key: size // _MIB})
            self._quit()
            # It may have written its settings again while quitting.
            self._write(self._read()[1] | {key: size // _MIB})
            self._start(size)
        except BaseException as error:
            self._restore(backup, error)
            raise
        return backup

    def _read(self) -> tuple[str, dict[str, Any]]:
        """The key of the memory in this version's settings, and all settings."""
        try:
            settings = json.loads(self.settings.read_text("utf-8"))
            key = next((name for name in settings if name.lower() == "memorymib"), "")
            return key or ("MemoryMiB" if self.settings.name == "settings-store.json" else "memoryMiB"), dict(settings)
        except (OSError, ValueError) as error:
            raise HostError(f"cannot read {self.settings}: {error}") from error

    def _write(self, settings: dict[str, Any]) -> None:
        temporary = self.settings.with_name(self.settings.name + ".tmp")
        try:
            temporary.write_text(json.dumps(settings, indent=2), "utf-8")
            shutil.copymode(self.settings, temporary)
            temporary.replace(self.settings)
        except OSError as error:
            raise HostError(f"cannot write {self.settings}: {error.strerror}") from error

    def _quit(self) -> None:
        self._say("quitting Docker Desktop")
        output_of(self._platform.stop, QUIT_S / 2)
        if not self._wait(lambda: engine() is None, QUIT_S / 2):
            self._say("it does not quit; killing it")
            output_of(self._platform.kill, QUIT_S / 4)
            if not self._wait(lambda: engine() is None, QUIT_S / 4):
                raise HostError("Docker Desktop does not quit: quit it by hand, then run the command again")

    def _start(self, size: int) -> None:
        self._say("starting Docker Desktop; waiting for its daemon, whatever its window shows")
        if output_of(self._platform.start, 10.0) is None:
            raise HostError(f"`{' '.join(self._platform.start)}` failed; start Docker Desktop by hand and check its messages")
        if not self._wait(lambda: (now := engine()) is not None and now.memory_bytes >= size * SLACK, START_S):
            now = engine()
            what = "does not answer" if now is None else f"still has {now.memory_bytes // _MIB} MiB"
            raise HostError(
                f"the daemon {what} after {START_S:.0f} s; quit Docker Desktop from its menu and start it again; "
                "if that does not help, open Troubleshoot there"
            )

    def _wait(self, done: Callable[[], bool], limit_s: float) -> bool:
        began = time.monotonic()
        told = 0
        while not done():
            waited = time.monotonic() - began
            if waited > limit_s:
                return False
            if int(waited) >= told + 5:
                told = int(waited)
                self._say(f"waited {told} s so far")
            time.sleep(LOOK_S)
        return True

    def _restore(self, backup: Path, error: BaseException) -> None:
        """Restore the settings and start Docker Desktop with them; errors are ignored."""
        self._say(f"{str(error) or 'interrupted'}; restoring the previous settings")
        with contextlib.suppress(OSError):
            shutil.copy2(backup, self.settings)
        if engine() is None:
            output_of(self._platform.start, 10.0)


def compose(arguments: Sequence[str]) -> None:
    """Replace this process with `docker compose ARGUMENTS`; raises HostError if docker is not installed."""
    try:
        os.execvp("docker", ["docker", "compose", *arguments])
    except OSError as error:
        raise HostError(f"cannot run docker: {error.strerror}; install Docker Engine or Docker Desktop") from error

"""The container engine of this host, and the memory that it has; on a Mac that is the memory of Docker Desktop's machine."""

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
from pipeline.host.command import ask

#: Seconds that Docker Desktop gets to quit when asked, before it is made to; both together.
QUIT_S = 20.0

#: Seconds until its daemon must answer again.
START_S = 60.0

#: Seconds between two looks.
LOOK_S = 1.0

#: The machine reports a little less than it was given.
SLACK = 0.9

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers."""

    version: str
    memory_bytes: int  #: that all its containers together can have
    cores: int
    desktop: bool  #: in a machine of its own, whose memory is a setting


@dataclass(frozen=True, slots=True)
class Platform:
    """How Docker Desktop is found, ended and started on one system."""

    settings: tuple[str, ...]  #: files below the home folder, the newest kind first
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
    """The engine that answers `docker info`; None where there is none or it does not run."""
    try:
        said = json.loads(ask(("docker", "info", "--format", "{{json .}}"), 10.0) or "")
        if not said.get("ServerVersion"):  # the client alone answers too
            return None
        return Engine(str(said["ServerVersion"]), int(said["MemTotal"]), int(said["NCPU"]),
                      "docker desktop" in str(said.get("OperatingSystem", "")).lower())  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Desktop:
    """Docker Desktop's own memory: in its settings file, and in force only after it has been started again."""

    def __init__(self, say: Callable[[str], None], *, home: Path | None = None, system: str | None = None) -> None:
        """`say` is told each step. Raises HostError where there is no Docker Desktop whose memory can be set."""
        self._say = say
        name = system or platform.system()
        found = PLATFORMS.get(name)
        if found is None:
            raise HostError(
                "on Windows the memory of Docker's machine is that of WSL: put `memory=10GB` below `[wsl2]` in .wslconfig in your "
                "user folder, then run `wsl --shutdown` and start Docker Desktop"
            )
        self._platform = found
        files = [(home or Path.home()) / part for part in found.settings]
        existing = [file for file in files if file.is_file()]
        if not existing:
            raise HostError(
                "Docker runs on this host itself, there is no virtual machine to size: containers can have all of its memory"
                if name == "Linux"
                else f"Docker Desktop has no settings at {files[0]}: install it, start it once, and try again"
            )
        self.settings = existing[0]

    def memory_bytes(self) -> int:
        """What the settings give the machine; raises HostError where they cannot be read."""
        key, settings = self._read()
        return int(settings.get(key, 0)) * _MIB

    def set_memory(self, size: int) -> Path:
        """Give the machine `size` bytes: back the settings up, change them, quit, start, wait; return the backup.

        Where the daemon does not come back the settings are restored and Docker Desktop is started with them. Raises
        HostError that says how far it came and what to do.
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
            # It may have written its own settings once more on its way out.
            self._write(self._read()[1] | {key: size // _MIB})
            self._start(size)
        except BaseException as error:
            self._restore(backup, error)
            raise
        return backup

    def _read(self) -> tuple[str, dict[str, Any]]:
        """The name that the memory has in this version's settings, and all of them."""
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
        self._say("Docker Desktop quits")
        ask(self._platform.stop, QUIT_S / 2)
        if not self._wait(lambda: engine() is None, QUIT_S / 2):
            self._say("it does not, and is ended by force")
            ask(self._platform.kill, QUIT_S / 4)
            if not self._wait(lambda: engine() is None, QUIT_S / 4):
                raise HostError("Docker Desktop does not end: quit it by hand, then run the command again")

    def _start(self, size: int) -> None:
        self._say("Docker Desktop starts; its daemon is what counts, not its window")
        if ask(self._platform.start, 10.0) is None:
            raise HostError(f"`{' '.join(self._platform.start)}` failed; start Docker Desktop by hand and look at what it says")
        if not self._wait(lambda: (now := engine()) is not None and now.memory_bytes >= size * SLACK, START_S):
            now = engine()
            what = "does not answer" if now is None else f"has {now.memory_bytes // _MIB} MiB still"
            raise HostError(
                f"the daemon {what} after {START_S:.0f} s; quit Docker Desktop from its menu, start it again, and "
                "see Troubleshoot there if it stays so"
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
                self._say(f"waiting for {told} s")
            time.sleep(LOOK_S)
        return True

    def _restore(self, backup: Path, error: BaseException) -> None:
        """Put the settings back as they were and start Docker Desktop with them, as well as that can be done now."""
        self._say(f"{str(error) or 'interrupted'}; the settings are put back as they were")
        with contextlib.suppress(OSError):
            shutil.copy2(backup, self.settings)
        if engine() is None:
            ask(self._platform.start, 10.0)


def compose(arguments: Sequence[str]) -> None:
    """Become `docker compose ARGUMENTS`; raises HostError where there is no docker."""
    try:
        os.execvp("docker", ["docker", "compose", *arguments])
    except OSError as error:
        raise HostError(f"docker cannot be run: {error.strerror}; install Docker Engine or Docker Desktop") from error

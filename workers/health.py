"""Heartbeat files: one per process of a service, touched while it lives; `python -m workers.health FOLDER` checks them.

Container health checks run it every few seconds, so it imports only the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

#: Max age of a heartbeat in seconds; an older one means that the process hangs. Heartbeats are sent at least every 5 s.
STALE_S = 30.0


def file_of(worker: str) -> str:
    """The heartbeat file of a worker, `role-device`: its name without numbers that may differ after a restart."""
    name = worker.rpartition("@")[0]
    while (shorter := name.rstrip("0123456789")) != name and shorter.endswith("-"):
        name = shorter[:-1]
    return name


def prepare(folder: Path | None) -> None:
    """Create the folder, and delete the heartbeat files of an earlier service. Raises OSError."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()


def expect(folder: Path | None, name: str) -> None:
    """Announce a process: until its first heartbeat the service is unhealthy. Does nothing without a folder."""
    touch(folder, name, (0, 0))


def touch(folder: Path | None, name: str, times: tuple[float, float] | None = None) -> None:
    """Send a heartbeat, now or at `times`; a full disk or missing folder is ignored."""
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / name).touch()
            os.utime(folder / name, times)


def stale(folder: Path, max_age_s: float = STALE_S) -> list[str]:
    """The problems, one line each: processes without a recent heartbeat, or no process at all."""
    try:
        ages = {path.name: time.time() - path.stat().st_mtime for path in folder.iterdir()}
    except FileNotFoundError:
        ages = {}
    if not ages:
        return [f"no process has started: {folder} has no heartbeat files"]
    return [
        f"{name}: no heartbeat yet" if age > 1e8 else f"{name}: no heartbeat for {age:.0f} s"
        for name, age in sorted(ages.items())
        if age > max_age_s
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the problems; the exit status is 0 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m workers.health", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-age-s", type=float, default=STALE_S)
    options = parser.parse_args(argv)
    wrong = stale(options.folder, options.max_age_s)
    print("\n".join(wrong) or "healthy")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

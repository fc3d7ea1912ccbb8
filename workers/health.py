"""Signs of life: a file for each process of a service, touched while it lives; `python -m workers.health FOLDER` reads them.

A health check of a container runs it every few seconds, so it imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

#: A sign of life that is older is that of a process that hangs; they are touched every 5 s or more often.
STALE_S = 30.0


def file_of(worker: str) -> str:
    """The file of a worker, `role-device`, without what may make its name differ from that of the one before."""
    name = worker.rpartition("@")[0]
    while (shorter := name.rstrip("0123456789")) != name and shorter.endswith("-"):
        name = shorter[:-1]
    return name


def prepare(folder: Path | None) -> None:
    """Make the folder, without the processes of a service that is no more. Raises OSError."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()


def expect(folder: Path | None, name: str) -> None:
    """Announce a process: until its first sign of life the service is not healthy. Without a folder nothing is kept."""
    touch(folder, name, (0, 0))


def touch(folder: Path | None, name: str, times: tuple[float, float] | None = None) -> None:
    """Give a sign of life, now or at `times`; a full or vanished folder is no reason to stop working."""
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / name).touch()
            os.utime(folder / name, times)


def stale(folder: Path, max_age_s: float = STALE_S) -> list[str]:
    """What is wrong, a line each: processes without a recent sign of life, or no process at all."""
    try:
        ages = {path.name: time.time() - path.stat().st_mtime for path in folder.iterdir()}
    except FileNotFoundError:
        ages = {}
    if not ages:
        return [f"no process has begun in {folder}"]
    return [
        f"{name}: no sign of life yet" if age > 1e8 else f"{name}: no sign of life for {age:.0f} s"
        for name, age in sorted(ages.items())
        if age > max_age_s
    ]


def main(argv: list[str] | None = None) -> int:
    """Print what is wrong; the exit status is 0 where nothing is."""
    parser = argparse.ArgumentParser(prog="python -m workers.health", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-age-s", type=float, default=STALE_S)
    options = parser.parse_args(argv)
    wrong = stale(options.folder, options.max_age_s)
    print("\n".join(wrong) or "healthy")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

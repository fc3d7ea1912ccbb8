"""Memory of each kind of process with one corpus and with ten times of it, the loader's with very many files, and start-up.

python -m benchmarks.footprint [--pages 40] [--files 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks import command
from benchmarks.corpus import pages
from benchmarks.report import machine, save, table

#: Names of one file: file systems allow some ten thousand links.
LINKS = 25_000


def many_names(folder: Path, count: int) -> None:
    """`count` files that are few files under many names, so that they are made quickly and take no room."""
    source = folder
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        path = place / f"{number}.txt"
        if number % LINKS == 0:
            source = path
            path.write_text(f"Note {number} of many.\n", "utf-8")
        else:
            os.link(source, path)


def main() -> None:
    """Measure, print the tables, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=40, help="HTML pages of the smaller corpus")
    parser.add_argument("--files", type=int, default=1_000_000, help="names that the loader meets")
    parser.add_argument("--rounds", type=int, default=3, help="starts that are timed")
    options = parser.parse_args()
    peaks: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        note = folder / "note.md"
        note.write_text("# Hello\n\nA small file about whales.\n", "utf-8")
        calibrating = command.load(folder / "start", str(note)).seconds
        starts = []
        for number in range(options.rounds):
            (folder / f"start{number}").mkdir()
            shutil.copy(folder / "start" / "calibration.json", folder / f"start{number}")
            starts.append(command.load(folder / f"start{number}", str(note)).seconds)

        for times in (1, 10):
            files = pages()[: options.pages * times]
            ran = command.load(folder / f"times{times}", *map(str, files), memory=True)
            peaks[f"{len(files)} pages, {ran.answer['chunks']} chunks"] = ran.peak_mb
            print(f"{len(files)} pages: {ran.peak_mb}", flush=True)
        loader: dict[str, tuple[float, float]] = {}
        many_names(folder / "names", options.files)
        for name in ("first load, staged only", "second load"):
            ran = command.load(folder / "many", str(folder / "names"), "--no-wait", memory=True)
            loader[name] = (ran.peak_mb["load command"], round(options.files / ran.seconds))
            print(f"{options.files} files, {name}: {loader[name]}", flush=True)
    roles = sorted({role for found in peaks.values() for role in found})
    print(machine())
    print(
        table(("process, peak resident MB", *peaks), [(role, *(found.get(role, "") for found in peaks.values())) for role in roles])
    )
    print(
        table((f"loader, {options.files} files", "peak resident MB", "files/s"), [(name, *found) for name, found in loader.items()])
    )
    print(
        f"a load of one small file: {statistics.median(starts):.1f} s; the first on this machine, calibrating: {calibrating:.1f} s"
    )
    save("footprint", {"peak_mb": peaks, "files": options.files, "loader": loader, "start_s": starts, "first_start_s": calibrating})


if __name__ == "__main__":
    main()

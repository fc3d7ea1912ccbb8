"""The start of a load, line by line: imports, ledger, discovery, first parsed document, model, first documents that are found.

    python -m benchmarks.start [--pages 1,120] [--rounds 5] [--beside CHECKOUT]

The lines come from the times in the ledger and from log lines. Processor time is that of all processes of a load. `--beside` is
the folder of another checkout of this repository, whose loads take turns with ours. The calibration is remembered from a load
before the first round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.corpus import pages
from benchmarks.load import spread
from benchmarks.report import machine, save, table
from pipeline.sandbox.confine import CHILD_SUBREAPER, prctl

#: Seconds between two looks for the ledger's file.
LOOK_EVERY_S = 0.005

HERE = Path(__file__).resolve().parents[1]

#: The lines of the budget, with what each ends at, in seconds since the command was started.
LINES = {
    "imports": "the command opens the ledger",
    "ledger": "the run is recorded",
    "discovery": "a document is recorded",
    "parse": "a document is parsed",
    "model": "the embed worker has its model",
    "first batch": "a document is indexed",
    "end": "the command has ended",
    "processor time": "of all processes",
}

#: Seconds by which a line should be over on two idle cores; docs/performance.md has the same.
BUDGET_S = {"imports": 0.9, "ledger": 1.0, "discovery": 1.1, "parse": 2.2, "model": 3.0, "first batch": 4.0}

#: What the embed worker logs when its model is ready.
READY = "embeds with "


def timed(checkout: Path, data: Path, files: Sequence[Path]) -> dict[str, float]:
    """Load files into a new data folder; return the seconds of each line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    environment |= {"KB_DATA_DIR": str(data), "HF_HUB_OFFLINE": "1", "KB_INGEST_DEVICE": "cpu", "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "workers", "--log-format", "json", "--log-level", "info", "load", *map(str, files), "--json"]
    before_s = _used_s()
    began = time.time()
    opened: list[float] = []
    with subprocess.Popen(
        command, env=environment, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        looking = threading.Thread(target=_look, args=(data / "kb.db", process, opened))
        looking.start()
        _, err = process.communicate()
        end_s = time.time() - began
        looking.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{err}")
    _reap()
    found = _of_ledger(data / "kb.db") | {"imports": opened[0], "model": _ready(err)}
    return {
        **{line: found[line] - began for line in LINES if line in found},
        "end": end_s,
        "processor time": _used_s() - before_s,
    }


def _look(path: Path, process: subprocess.Popen[str], opened: list[float]) -> None:
    while process.poll() is None:
        if path.exists():
            opened.append(time.time())
            return
        time.sleep(LOOK_EVERY_S)


def _of_ledger(path: Path) -> dict[str, float]:
    """Moments from the ledger, epoch."""
    with closing(sqlite3.connect(path)) as ledger:
        first = dict(ledger.execute("SELECT state, min(at) FROM events GROUP BY state").fetchall())
        (run,) = ledger.execute("SELECT min(started_at) FROM runs").fetchone()
    return {"ledger": run, "discovery": first["pending"], "parse": first["parsed"], "first batch": first["indexed"]}


def _ready(lines: str) -> float:
    """When the model was ready, epoch."""
    said = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    return next(datetime.fromisoformat(line["time"]).timestamp() for line in said if line["message"].startswith(READY))


def _used_s() -> float:
    """Processor time of the processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for processes of the load whose parent has not: they are counted then."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", default="1,120", help="numbers of pages, comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, action="append", default=[], help="another checkout; repeatable")
    options = parser.parse_args()
    prctl(CHILD_SUBREAPER, 1)
    checkouts = {"here": HERE} | {path.name: path.resolve() for path in options.beside}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, checkout in checkouts.items():
            timed(checkout, folder / name, pages()[:1])
        for _ in range(options.rounds):
            for wanted in options.pages.split(","):
                files = spread(pages(), wanted)
                for name, checkout in checkouts.items():
                    data = folder / "data"
                    data.mkdir()
                    shutil.copy(folder / name / "calibration.json", data)
                    seconds = timed(checkout, data, files)
                    shutil.rmtree(data)
                    lines = found.setdefault(str(len(files)), {}).setdefault(name, {line: [] for line in LINES})
                    for line, value in seconds.items():
                        lines[line].append(round(value, 2))
                    print(len(files), name, {line: round(value, 2) for line, value in seconds.items()}, flush=True)
    print(machine())
    for count, sides in found.items():
        print(f"\n{count} pages, medians of seconds since the start (least to most)\n")
        print(table(("line", "until", "budget", *sides), _rows(sides)))
    save("start", {"seconds": found})


def _rows(sides: Mapping[str, Mapping[str, Sequence[float]]]) -> list[tuple[object, ...]]:
    def cell(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    return [(line, until, BUDGET_S.get(line, ""), *(cell(side[line]) for side in sides.values())) for line, until in LINES.items()]


if __name__ == "__main__":
    main()

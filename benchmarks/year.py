"""A simulated year: documents that change, re-indexes and `gc`, and what the data folder then takes.

    python -m benchmarks.year [--documents 1000] [--days 365] [--minutes 45] [--older-than 1d]

Each day a tenth of the documents changes, a hundredth goes and as many are new; a sync loads them, and `gc` runs. Each seventh day
the collection is built anew. Sizes are those after `gc`, and after the process that gives back the space of deleted points. The
clock of the commands is that of the simulated day (libfaketime), and files that they wrote get its time. Vectors come from an
endpoint that makes them of the text, embedded mode holds the rest. The folder is compared with what it was on day 0: after one
load, and after that load and a `gc`. The number of documents stays the same, and so do their lengths on average.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks import command
from benchmarks.report import machine, save, table
from tests.embed_server import MODELS, Endpoint
from tests.services import REPOSITORY

DAY_S = 86_400
#: Parts of a data folder that grow.
PARTS = ("kb.db", "qdrant", "staging")
#: Model of the endpoint, and numbers of its vectors: those of the default model.
MODEL, DIMENSION = "year", 384
#: Of the texts.
WORDS = tuple(map("word{}".format, range(500)))


def text(chance: random.Random) -> str:
    """A document of some paragraphs."""
    return "\n\n".join(" ".join(chance.choices(WORDS, k=chance.randint(40, 120))) + "." for _ in range(chance.randint(2, 8)))


def vector(text: str) -> list[float]:
    """A vector that depends on the text alone."""
    numbers = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
    found: list[float] = numbers.standard_normal(DIMENSION).round(4).tolist()
    return found


class Source:
    """A folder of documents."""

    def __init__(self, folder: Path, count: int, chance: random.Random) -> None:
        self._folder, self._chance, self._made = folder, chance, 0
        folder.mkdir()
        self._names: list[Path] = []
        self._add(count)

    def day(self) -> None:
        """Change a tenth, remove a hundredth, add as many."""
        few = max(1, len(self._names) // 100)
        for path in self._chance.sample(self._names, 10 * few):
            path.write_text(text(self._chance), "utf-8")
        for path in self._chance.sample(self._names, few):
            self._names.remove(path)
            path.unlink()
        self._add(few)

    def _add(self, count: int) -> None:
        for _ in range(count):
            path = self._folder / f"{self._made:06}.txt"
            path.write_text(text(self._chance), "utf-8")
            self._names.append(path)
            self._made += 1


def sizes(data: Path) -> Counter[str]:
    """Bytes on disk by part of a data folder."""
    found: Counter[str] = Counter()
    for path in data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[path.relative_to(data).parts[0].partition("-")[0]] += path.stat().st_blocks * 512
    return found


def size(parts: Mapping[str, float]) -> float:
    """Bytes of all parts that grow."""
    return sum(parts.get(part, 0) for part in PARTS)


def processor_s() -> float:
    """Processor time of the commands so far, without the processes that outlive them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(times: Sequence[float]) -> str:
    """How large the folder was on most days, compared with one load and `gc`."""
    few = sum(one <= 1.2 for one in times)
    return f"median {statistics.median(times):.2f}, largest {max(times):.2f}; {few} of {len(times)} days at 1.2 or below"


def settle(data: Path) -> None:
    """Wait for the processes that make shards of this data folder anew."""
    store = str(data / "qdrant")
    while any(store in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])):
        time.sleep(0.2)


class Clock:
    """The time of commands."""

    def __init__(self, folder: Path) -> None:
        self.days = 0
        self._file = folder / "clock"
        libraries = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
        if not libraries:
            raise SystemExit("libfaketime is missing (Debian's package faketime)")
        self._library = str(libraries[0])

    def variables(self) -> dict[str, str]:
        """Of a command of this day."""
        self._file.write_text(f"+{self.days * DAY_S}")
        return {
            "LD_PRELOAD": self._library, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1", "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY / "tests/faults/inject", REPOSITORY))),
        }  # fmt: skip

    def stamp(self, data: Path, since: float) -> None:
        """Give files that were written since then, by the true time, the time of this day."""
        for path in data.rglob("*"):
            if path.is_file() and since <= path.stat().st_mtime <= time.time():
                at = path.stat().st_mtime + self.days * DAY_S
                os.utime(path, (at, at))


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no day begins later")
    parser.add_argument("--older-than", default="", help="age for gc; default: none, as in a schedule")
    options = parser.parse_args()
    MODELS[MODEL] = vector
    endpoint = Endpoint(ollama=False)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    model = {"KB_EMBED_URL": endpoint.url, "KB_EMBED_MODEL": MODEL}
    history: list[dict[str, float]] = []
    before, until = processor_s(), time.monotonic() + 60 * options.minutes
    old = ("--older-than", options.older_than) if options.older_than else ()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clock = Clock(folder)
        source, data = Source(folder / "documents", options.documents, random.Random(5)), folder / "data"
        for day in range(options.days + 1):
            clock.days, began = day, time.time()
            if day:
                source.day()
            variables = model | clock.variables()
            command.run(data, "load", "--sync", str(folder / "documents"), variables=variables)
            if day and day % 7 == 0:
                command.run(data, "reindex", variables=variables)
            clock.stamp(data, began)
            if not day:
                settle(data)
                fresh = sizes(data)
            command.run(data, "gc", *old, variables=variables)
            settle(data)
            clock.stamp(data, began)
            spent = processor_s()
            history.append(
                {"day": day, "seconds": round(time.time() - began, 1), "processor": round(spent - before, 1), **sizes(data)}
            )
            before = spent
            print(history[-1] | {"times": round(size(history[-1]) / size(history[0]), 2)}, flush=True)
            if time.monotonic() > until:
                break
        checked = json.loads(command.run(data, "verify", "--json", variables=model | clock.variables()))
    endpoint.shutdown()
    collected, now = history[0], history[-1]
    print(machine())
    days = [
        (
            one["day"],
            *(round(one.get(part, 0) / 1e6, 1) for part in PARTS),
            *(f"{size(one) / size(of):.2f}" for of in (fresh, collected)),
        )
        for one in history
    ]
    print(table(("day", *PARTS, "times a load", "times a load and gc"), days))
    print(summary([size(one) / size(collected) for one in history[1:]]))
    print(f"verify: {checked}")
    save("year", {"documents": options.documents, "days": now["day"], "fresh": fresh, "history": history})


if __name__ == "__main__":
    main()

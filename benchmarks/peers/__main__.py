"""Whole loads of HTML pages beside LangChain, LlamaIndex and Haystack, tuned alike, and beside embedding alone.

    python -m benchmarks.peers [--python .venv-peers/bin/python] [--pages 120,all] [--rounds 3]

In each round and for each number of pages, everybody takes a turn as a new process with an empty store, start-up included. Peers
get the machine's cores as threads and the precision that kb-ingest chose on this machine, and fp32 as well where that differs;
the better of the two counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import command
from benchmarks.corpus import chunk_texts, pages
from benchmarks.load import ALONE, spread
from benchmarks.report import machine, save, table
from pipeline.embed.local import LocalEmbedder
from pipeline.model.device import usable_cores
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.settings import load_settings

SCRIPTS = Path(__file__).with_name("scripts.py")
OURS = "kb-ingest"
PEERS = ("LangChain", "LlamaIndex", "Haystack")


def peer_rate(python: Path, name: str, model: Path, target: Path, dtype: str, files: list[Path]) -> float:
    """Chunks a second of a peer's whole process; raises SystemExit when it fails."""
    shutil.rmtree(target, ignore_errors=True)
    began = time.perf_counter()
    done = subprocess.run(
        [str(python), str(SCRIPTS), name, str(model), str(target), str(usable_cores()), dtype],
        input="\n".join(map(str, files)), capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["chunks"]) / seconds


def our_rate(folder: Path, files: list[Path]) -> float:
    """Chunks a second of `kb-ingest load` with what an earlier load has learned about this machine."""
    data = folder / "data"
    data.mkdir()
    if (learned := folder / "first" / "calibration.json").exists():
        shutil.copy(learned, data)
    ran = command.load(data, *map(str, files))
    shutil.rmtree(data)
    return int(ran.answer["chunks"]) / ran.seconds


def compared(corpus: str, found: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """A row for everybody who loaded a corpus."""
    best = max(PEERS, key=lambda name: statistics.median(found[name]))
    rows: list[tuple[str, ...]] = []
    for name, values in found.items():
        times = statistics.median(ours / theirs for ours, theirs in zip(found[OURS], values, strict=True))
        label = f"{name} (best peer)" if name == best else name
        rows.append((corpus, label, f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}", f"{times:.2f}"))
    return rows


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--pages", default="120,all", help="numbers of pages, comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "alone", ingest_device="cpu")
        model = resolve_model(settings).path
        command.load(folder / "first", str(pages()[0]))
        embedder = LocalEmbedder.load(settings, "cpu")
        texts = chunk_texts(TokenCounter.from_folder(model), 480)
        dtypes = sorted({"float32", embedder.info.dtype})
        for wanted in options.pages.split(","):
            files = spread(pages(), wanted)
            found = rates.setdefault(f"{len(files)} pages", {})
            for _ in range(options.rounds):
                found.setdefault(OURS, []).append(our_rate(folder, files))
                for name in PEERS:
                    best = max(peer_rate(options.python, name, model, folder / "peer", dtype, files) for dtype in dtypes)
                    found.setdefault(name, []).append(best)
                began = time.perf_counter()
                embedder.embed(texts)
                found.setdefault(ALONE, []).append(len(texts) / (time.perf_counter() - began))
                print(wanted, {name: round(values[-1], 1) for name, values in found.items()}, flush=True)
        embedder.close()
    print(machine())
    columns = ("corpus", "who", "chunks/s, median", "range", "kb-ingest is so many times as fast")
    print(table(columns, [row for corpus, found in rates.items() for row in compared(corpus, found)]))
    save("peers", {"rates": rates, "dtypes": dtypes})


if __name__ == "__main__":
    main()

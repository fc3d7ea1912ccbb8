"""A whole load of HTML pages, start-up included, against a straightforward LangChain script and against embedding alone.

    python -m benchmarks.load [--pages 204] [--script-pages 60] [--rounds 3]

In each round both get pages of the same list in turn, each a new process and an empty store; the script gets fewer because it is
slow, and its rate hardly depends on it. The calibration is remembered from a load before the first round, as on any machine
that has loaded before. Embedding alone is the rate of the same embedder over chunks of the same pages, in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command
from benchmarks.corpus import chunk_texts, pages
from benchmarks.report import machine, ratios, save, table
from pipeline.embed.local import LocalEmbedder
from pipeline.model import resolve_model
from pipeline.settings import load_settings
from pipeline.tokens import TokenCounter

OURS, SCRIPT, ALONE = "kb-ingest load", "LangChain script", "embedding alone"


def script_rate(model: Path, folder: Path, files: list[Path]) -> float | None:
    """Chunks a second of the LangChain script, or None where LangChain is not installed."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_script", str(model), str(folder), *map(str, files)],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(f"the script failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["chunks"]) / seconds


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=204)
    parser.add_argument("--script-pages", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = pages()
    files = files[:: max(1, len(files) // options.pages)][: options.pages]
    rates: dict[str, list[float]] = {OURS: [], SCRIPT: [], ALONE: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "alone", ingest_device="cpu")
        model = resolve_model(settings).path
        embedder = LocalEmbedder.load(settings, "cpu")
        texts = chunk_texts(TokenCounter.from_folder(model), 480)
        first = command.load(folder / "first", str(files[0]))
        chunks = 0
        for number in range(options.rounds):
            data = folder / f"round{number}"
            data.mkdir()
            shutil.copy(folder / "first" / "calibration.json", data)
            ran = command.load(data, *map(str, files))
            chunks = int(ran.answer["chunks"])
            rates[OURS].append(chunks / ran.seconds)
            shutil.rmtree(data)
            began = time.perf_counter()
            embedder.embed(texts)
            rates[ALONE].append(len(texts) / (time.perf_counter() - began))
            if (rate := script_rate(model, folder / "script", files[: options.script_pages])) is not None:
                rates[SCRIPT].append(rate)
            print(
                f"round {number + 1}:",
                ", ".join(f"{name} {values[-1]:.1f}/s" for name, values in rates.items() if values),
                flush=True,
            )
        embedder.close()
    rates = {name: values for name, values in rates.items() if values}
    against = {base: ratios(rates, base) for base in rates if base != OURS}
    rows = [
        (name, round(statistics.median(values), 1), *(against[base][name] for base in against)) for name, values in rates.items()
    ]
    print(machine())
    print(f"{len(files)} pages, {chunks} chunks; a first load of one page, calibration included, takes {first.seconds:.1f} s")
    print(table(("what", "chunks/s, median", *(f"ratio to {base}" for base in against)), rows))
    save("load", {"pages": len(files), "chunks": chunks, "rates": rates, "ratios": against, "first_load_s": first.seconds})


if __name__ == "__main__":
    main()

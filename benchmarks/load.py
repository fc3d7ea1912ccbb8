"""Whole loads of HTML pages, start-up included, against a straightforward LangChain script and against embedding alone.

    python -m benchmarks.load [--pages 204,all] [--script-pages 60] [--rounds 3]

In each round, for each number of pages, kb-ingest, the script and embedding alone take their turns; the first two as new
processes with an empty store. The script gets fewer pages because it is slow, and its rate hardly depends on their number.
The calibration is remembered from a load before the first round, as on any machine that has loaded before.
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
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.settings import load_settings

SCRIPT, ALONE = "LangChain script", "embedding alone"


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


def spread(files: list[Path], wanted: str) -> list[Path]:
    """So many of the files, from all over the list; `all` of them."""
    count = len(files) if wanted == "all" else int(wanted)
    return files[:: max(1, len(files) // count)][:count]


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", default="204,all", help="numbers of pages, comma-separated")
    parser.add_argument("--script-pages", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "alone", ingest_device="cpu")
        model = resolve_model(settings).path
        embedder = LocalEmbedder.load(settings, "cpu")
        texts = chunk_texts(TokenCounter.from_folder(model), 480)
        first = command.load(folder / "first", str(pages()[0])).seconds
        for _ in range(options.rounds):
            found: dict[str, float] = {}
            for wanted in options.pages.split(","):
                files = spread(pages(), wanted)
                data = folder / "data"
                data.mkdir()
                shutil.copy(folder / "first" / "calibration.json", data)
                ran = command.load(data, *map(str, files))
                shutil.rmtree(data)
                chunks = int(ran.answer["chunks"])
                found[f"kb-ingest load, {len(files)} pages, {chunks} chunks"] = chunks / ran.seconds
                began = time.perf_counter()
                embedder.embed(texts)
                found[ALONE] = len(texts) / (time.perf_counter() - began)
            if (rate := script_rate(model, folder / "script", spread(pages(), str(options.script_pages)))) is not None:
                found[SCRIPT] = rate
            for name, rate in found.items():
                rates.setdefault(name, []).append(rate)
            print(", ".join(f"{name} {rate:.1f}/s" for name, rate in found.items()), flush=True)
        embedder.close()
    against = {base: ratios(rates, base) for base in (SCRIPT, ALONE) if base in rates}
    rows = [
        (name, round(statistics.median(values), 1), *(against[base][name] for base in against)) for name, values in rates.items()
    ]
    print(machine())
    print(table(("what", "chunks/s, median", *(f"ratio to {base}" for base in against)), rows))
    print(f"a first load of one page, calibration included, takes {first:.1f} s")
    save("load", {"rates": rates, "ratios": against, "first_load_s": first})


if __name__ == "__main__":
    main()

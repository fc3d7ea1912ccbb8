"""Loads of many short documents, of one file with many records, and of a mixture, against embedding alone.

    python -m benchmarks.small [--texts 3204] [--rounds 3] [--redis URL]

The rate of a load is taken after its start: the time of a load of one document is subtracted. Embedding alone gets the texts of the
same chunks, all at once. With --redis, the workers of a `kb-ingest up` do the work, and the start is not part of a load.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import command
from benchmarks.corpus import chunk_texts, pages
from benchmarks.load import spread
from benchmarks.report import machine, save, table
from pipeline.embed.local import LocalEmbedder
from pipeline.ledger import Ledger
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.settings import load_settings
from pipeline.staging import open_staging
from pipeline.staging.chunk_files import ChunkFile

#: Words of a short text: from a sentence to a paragraph, 65 tokens on average.
WORDS = (15, 65)
#: Records a load of one file has for each short document of the other load.
RECORDS = 2


def short_texts(counter: TokenCounter, count: int) -> list[str]:
    """So many texts of a sentence or a paragraph, from the pages of Python's documentation."""
    chance = random.Random(3)
    found: list[str] = []
    for text in chunk_texts(counter, count):
        words = text.split()
        while words and len(found) < count:
            length = chance.randint(*WORDS)
            found.append(" ".join(words[:length]))
            words = words[length:]
    return found


def corpora(folder: Path, texts: Sequence[str]) -> dict[str, Path]:
    """A folder for each kind of load."""
    short, records, mixture = (folder / name for name in ("short", "records", "mixture"))
    for place in (short, records, mixture):
        place.mkdir()
    for number, text in enumerate(texts):
        (short / f"{number:05}.txt").write_text(text, "utf-8")
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(texts)]
    (records / "records.jsonl").write_text("\n".join(lines * RECORDS), "utf-8")
    for path in sorted(short.iterdir())[::2]:
        shutil.copy(path, mixture)
    (mixture / "records.jsonl").write_text("\n".join(lines[: len(lines) // 4]), "utf-8")
    for number, path in enumerate(spread(pages(), "40")):
        shutil.copy(path, mixture / f"{number:03}.html")
    return {"short documents": short, "one file of records": records, "a mixture": mixture}


def loaded_texts(data: Path) -> list[str]:
    """The texts of all chunks that a load has made, from its chunk files."""
    settings = load_settings(data_dir=data)
    staging = open_staging(settings.staging_location)
    found: list[str] = []
    with Ledger.open(settings.ledger_url) as ledger:
        for window in ledger.report.expected(settings.collection):
            for document in window:
                with ChunkFile.of_version(staging, document).open() as (_, chunks):
                    found += [chunk.embed_text for chunk in chunks]
    return found


@contextmanager
def kept(folder: Path, name: str) -> Iterator[Path]:
    """A new data folder that knows what an earlier load has learned about this machine; removed in the end."""
    data = folder / name
    data.mkdir()
    if (learned := folder / "first" / "calibration.json").exists():
        shutil.copy(learned, data)
    try:
        yield data
    finally:
        shutil.rmtree(data)


def timed(data: Path, source: Path, one: Path, redis: str) -> tuple[float, float]:
    """Seconds of a load, and of a load of one document in the same way."""
    if not redis:
        with kept(data.parent, "start") as other:
            start_s = command.load(other, str(one)).seconds
        return command.load(data, str(source)).seconds, start_s
    with command.up(data, redis):
        command.load(data, str(pages()[0]), redis=redis)  # until the workers are ready
        start_s = command.load(data, str(pages()[1]), redis=redis).seconds
        return command.load(data, str(source), redis=redis).seconds, start_s


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3204)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--redis", default="", help="URL of a Redis whose queues may be used")
    options = parser.parse_args()
    rates: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "alone", ingest_device="cpu")
        counter = TokenCounter.from_folder(resolve_model(settings).path)
        sources = corpora(folder, short_texts(counter, options.texts))
        one = next(sources["short documents"].iterdir())
        command.load(folder / "first", str(one))
        embedder = LocalEmbedder.load(settings, "cpu")
        for _ in range(options.rounds):
            for name, source in sources.items():
                with kept(folder, "data") as data:
                    seconds, start_s = timed(data, source, one, options.redis)
                    texts = loaded_texts(data)
                began = time.perf_counter()
                embedder.embed(texts)
                alone = len(texts) / (time.perf_counter() - began)
                found = rates.setdefault(name, {"start_s": [], "load": [], "alone": []})
                found["start_s"].append(start_s)
                found["load"].append(len(texts) / (seconds - start_s))
                found["alone"].append(alone)
                print(name, {key: round(values[-1], 2) for key, values in found.items()}, flush=True)
        embedder.close()
    rows = []
    for name, found in rates.items():
        share = [load / alone for load, alone in zip(found["load"], found["alone"], strict=True)]
        medians = (round(statistics.median(found[key]), 1) for key in ("load", "alone", "start_s"))
        rows.append((name, *medians, f"{statistics.median(share):.2f} ({min(share):.2f} to {max(share):.2f})"))
    print(machine())
    print(table(("corpus", "load, chunks/s after the start", "embedding alone", "start, s", "share"), rows))
    save("small" + ("-redis" if options.redis else ""), {"rates": rates})


if __name__ == "__main__":
    main()

"""A large collection of the embedded store: what writing, its graph or one segment, and searches take. Its vectors are simulated.

    python -m benchmarks.million [--chunks 1000000] [--queries 300] [--without-graph] [--folder DIR]

Words are drawn as often as in natural text (`benchmarks.serve`). The vectors of a document's 50 chunks scatter around the one that
the real model gives to a passage of Python's documentation, with a cosine of 0.8 to it. A question is a chunk: eight of its words,
and its vector, moved as far again. Each step runs in a process of its own, whose memory the system tells: its own, and that of
mapped files, which the system may drop.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import pages
from benchmarks.report import machine, save, table
from benchmarks.serve import CENTRE_WORDS, CHUNK_WORDS, DOCUMENT_CHUNKS, Words
from pipeline.embed import make_embedder
from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect
from pipeline.settings import load_settings
from pipeline.store import graph
from pipeline.store.edge import EdgeStore
from pipeline.store.space import disk_bytes
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, chunk_id, document_id

NAME = "million@1"
#: Chunks that are made at once, and after how many the figures of writing are noted.
BATCH, NOTED = 5_000, 50_000
#: Words of a question, and its hits.
QUESTION_WORDS, LIMIT = 8, 10
#: Letters of a text whose vector is the centre of a document.
CENTRE_CHARACTERS = 400
#: Part of a vector that is noise: a cosine of 0.8 remains.
NEAR, FAR = 0.8, 0.6

Question = tuple[str, list[float]]
P = ParamSpec("P")
T = TypeVar("T")


def centres(documents: int) -> NDArray[np.float32]:
    """A vector for each document: of passages of real texts, in random order, repeated if there are too few."""
    texts: list[str] = []
    for path in pages():
        words = " ".join(one.text for one in parse(path, path.name, inspect(path, path.name, Limits())).elements).split()
        texts += [" ".join(words[at : at + CENTRE_WORDS]) for at in range(0, len(words) - CENTRE_WORDS, CENTRE_WORDS)]
    texts = [one for one in texts if len(one) < CENTRE_CHARACTERS]  # tables of symbols have more tokens than the model takes
    random.Random(7).shuffle(texts)
    with closing(make_embedder(load_settings(), device="cpu")) as embedder:
        found = embedder.embed(texts[:documents])
    print(f"{len(found):,} passages embedded for {documents:,} documents", flush=True)
    return np.resize(found, (documents, found.shape[1]))


def moved(vectors: NDArray[np.float32], numbers: np.random.Generator) -> NDArray[np.float32]:
    """Vectors with a cosine of about 0.8 to the given ones."""
    noise = numbers.standard_normal(vectors.shape, dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    found = NEAR * vectors + FAR * noise
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def made(chunks: int, around: NDArray[np.float32]) -> Iterator[list[tuple[DocumentInfo, EmbeddedChunk]]]:
    """The points, in batches."""
    words, numbers = Words(3), np.random.default_rng(5)
    for first in range(0, chunks, BATCH):
        rows = range(first, min(first + BATCH, chunks))
        vectors = moved(around[np.array(rows) // DOCUMENT_CHUNKS], numbers)
        yield [(_document(row // DOCUMENT_CHUNKS), _chunk(row, words, vector)) for row, vector in zip(rows, vectors, strict=True)]


def _document(number: int) -> DocumentInfo:
    folder = f"/benchmark/{number % 100}"
    uri = f"file://{folder}/{number}.txt"
    return DocumentInfo(document_id("documents", uri), uri, f"Document {number}", "text/plain", "", folder)


def _chunk(row: int, words: Words, vector: NDArray[np.float32]) -> EmbeddedChunk:
    text, document = words.draw(CHUNK_WORDS), _document(row // DOCUMENT_CHUNKS).id
    return EmbeddedChunk(
        Chunk(chunk_id(document, text, 0), document, row % DOCUMENT_CHUNKS, text, 2 * CHUNK_WORDS), vector.tolist()
    )


def write(folder: Path, chunks: int, queries: int, around: NDArray[np.float32]) -> tuple[list[dict[str, float]], list[Question]]:
    """Write all points; the figures of each part, and questions."""
    chance, numbers = random.Random(9), np.random.default_rng(11)
    figures, questions = list[dict[str, float]](), list[Question]()
    each = -(-queries * BATCH // chunks)
    with closing(EdgeStore(folder, role="owner")) as store:
        store.create(NAME, around.shape[1])
        seconds = cpu = 0.0
        written = 0
        for batch in made(chunks, around):
            began, began_cpu = time.perf_counter(), time.process_time()
            store.upsert(NAME, batch)
            seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - began_cpu
            written += len(batch)
            for _, one in chance.sample(batch, each):
                vector = moved(np.array([one.vector], np.float32), numbers)[0]
                questions.append((" ".join(chance.sample(one.chunk.text.split(), QUESTION_WORDS)), vector.tolist()))
            if written % NOTED == 0 or written == chunks:
                figures.append({"chunks": written, "seconds": seconds, "cpu_s": cpu, **memory_mb(), "disk_mb": disk_mb(folder)})
                print({name: round(value, 1) for name, value in figures[-1].items()}, flush=True)
                seconds = cpu = 0.0
    chance.shuffle(questions)
    return figures, questions[:queries]


def build(folder: Path, making: graph.Making) -> dict[str, float]:
    """Build the graph, or one segment of all, as a load has it done; what the process took."""
    process = subprocess.Popen([sys.executable, "-m", "pipeline.store.graph", str(folder), NAME, making])
    began, peak, disk = time.perf_counter(), dict[str, float](), 0.0
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        now = memory_mb(process.pid)
        peak = {name: max(value, peak.get(name, 0.0)) for name, value in now.items()}
        disk = max(disk, disk_mb(folder))
        time.sleep(1)
    if status:
        raise SystemExit(f"the {making} ended with {status}")
    took = {"seconds": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime}
    return {**took, **peak, "disk_peak_mb": disk, "disk_mb": disk_mb(folder)}


def ask(folder: Path, questions: Sequence[Question], known: Sequence[set[str]]) -> tuple[dict[str, float], list[set[str]]]:
    """Search by each mode; figures, and the hits of dense searches. `known`: these hits of a collection without a graph."""
    began = time.perf_counter()
    with closing(EdgeStore(folder, role="owner")) as store:
        store.count(NAME)
        figures = {"open_s": time.perf_counter() - began}
        dense = list[set[str]]()
        for mode in ("dense", "sparse", "hybrid"):
            took, cpu = list[float](), time.process_time()
            for number, (text, vector) in enumerate([*questions[:20], *questions]):  # the first ones read files into memory
                if number == 20:
                    cpu = time.process_time()
                began = time.perf_counter()
                hits = store.search(NAME, vector if mode != "sparse" else None, LIMIT, (), text if mode != "dense" else "")
                took.append(time.perf_counter() - began)
                if mode == "dense" and number >= 20:
                    dense.append({hit.chunk_id for hit in hits})
            figures[f"{mode}_cpu_ms"] = 1e3 * (time.process_time() - cpu) / len(questions)
            p50, p99 = np.percentile(took[20:], (50, 99))
            figures |= {f"{mode}_p50_ms": 1e3 * float(p50), f"{mode}_p99_ms": 1e3 * float(p99)}
        figures |= memory_mb()
    if known:
        figures["recall"] = float(np.mean([len(now & true) / LIMIT for now, true in zip(dense, known, strict=True)]))
    return figures, dense


def memory_mb(pid: int | None = None) -> dict[str, float]:
    """Memory of a process: its own, and that of mapped files that it has looked at."""
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return {}
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {name: int(found[key]) / 1024 for name, key in (("own_mb", "RssAnon"), ("mapped_mb", "RssFile")) if key in found}


def disk_mb(folder: Path) -> float:
    """What a folder takes."""
    return disk_bytes(folder) / 2**20


def alone(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args, **kwargs).result()


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--without-graph", action="store_true", help="end before the graph is built, or segments are merged")
    parser.add_argument("--folder", type=Path, help="where the collection is made, and stays; by default a temporary folder")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        around = alone(centres, -(-options.chunks // DOCUMENT_CHUNKS))
        written, questions = alone(write, folder, options.chunks, options.queries, around)
        every, true = alone(ask, folder, questions, [])
        print(every, flush=True)
        built = after = dict[str, float]()
        making: graph.Making = "graph" if options.chunks <= graph.MAX_POINTS else "merge"
        if not options.without_graph:
            built = build(folder, making)
            print(built, flush=True)
            after, _ = alone(ask, folder, questions, true)
    rows = [(name, *(round(one[name], 2) if name in one else "" for one in (every, after))) for name in every | after]
    print(table((f"{options.chunks:,} chunks", "as written", making), rows))
    save("million", {"chunks": options.chunks, "written": written, "every": every, "build": built, making: after})


if __name__ == "__main__":
    main()

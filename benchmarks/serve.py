"""The service under load: hybrid searches by one caller and by eight, with a token's filter, and beside a running load.

    python -m benchmarks.serve [--chunks 100000] [--queries 400] [--load-pages 60] [--without-graph]

The embedded store gets chunks of words drawn as in natural text, with the frequency of the n-th word by 1/n. The vectors of a
document's chunks scatter around the one that the real model gives to a text of such words, with a cosine of 0.8 to it: a graph over
noise would say nothing. The graph is built as after a load. Every question is another one, and the real model embeds it. The
callers share the machine with the service.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.callers import Callers
from benchmarks.corpus import pages
from benchmarks.load import spread
from benchmarks.report import machine, save, table
from pipeline.embed import make_embedder
from pipeline.settings import load_settings
from pipeline.store import graph, open_store
from pipeline.store.base import VectorStore
from pipeline.store.names import open_physical
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, chunk_id, document_id

#: Different words of the collection, words of a chunk, and chunks of a document.
WORDS, CHUNK_WORDS, DOCUMENT_CHUNKS = 30_000, 90, 50

#: Words of the texts whose vectors are the centres of documents, and the number of such texts.
CENTRE_WORDS, MAX_CENTRES = 30, 2000

#: Chunks that are written at once.
BATCH = 5_000

#: Words of a question.
QUESTION_WORDS = (3, 8)

#: Seconds until a service must be ready.
READY_S = 300.0

CALLERS = 8

#: Half of the documents are in this folder, which the filter of a token names.
FOLDER = "/benchmark/one"


class Words:
    """Draws words as often as the n-th most frequent word of a language: by 1/n."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstv", "aeiou")]
        self._words = sorted({"".join(chance.choices(syllables, k=chance.randint(2, 4))) for _ in range(2 * WORDS)})[:WORDS]
        chance.shuffle(self._words)
        share = 1 / np.arange(1, len(self._words) + 1)
        self._share = np.cumsum(share / share.sum())
        self._numbers = np.random.default_rng(seed)

    def draw(self, count: int) -> str:
        """A text of so many words."""
        places = np.searchsorted(self._share, self._numbers.random(count))
        return " ".join(self._words[min(place, len(self._words) - 1)] for place in places)


def centres(documents: int, words: Words) -> NDArray[np.float32]:
    """The vectors that the configured model gives to texts of words: one for each document, repeated where there are many."""
    embedder = make_embedder(load_settings(), device="cpu", purpose="questions")
    found = embedder.embed([words.draw(CENTRE_WORDS) for _ in range(min(documents, MAX_CENTRES))])
    embedder.close()
    return np.resize(found, (documents, found.shape[1]))


def fill(store: VectorStore, physical: str, chunks: int, words: Words) -> None:
    """Write so many chunks of made documents."""
    numbers = np.random.default_rng(5)
    around = centres(-(-chunks // DOCUMENT_CHUNKS), words)
    for first in range(0, chunks, BATCH):
        rows = np.arange(first, min(first + BATCH, chunks))
        noise = numbers.standard_normal((len(rows), around.shape[1])).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = 0.8 * around[rows // DOCUMENT_CHUNKS] + 0.6 * noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        store.upsert(physical, [(_document(first + row), _chunk(first + row, words, vector.tolist()))
                                for row, vector in enumerate(vectors)])  # fmt: skip


def _document(number: int) -> DocumentInfo:
    folder = FOLDER if number // DOCUMENT_CHUNKS % 2 else "/benchmark/two"
    uri = f"file://{folder}/{number // DOCUMENT_CHUNKS}.txt"
    return DocumentInfo(document_id("documents", uri), uri, f"Document {number // DOCUMENT_CHUNKS}", "text/plain", "", folder)


def _chunk(number: int, words: Words, vector: list[float]) -> EmbeddedChunk:
    text, document = words.draw(CHUNK_WORDS), _document(number)
    return EmbeddedChunk(
        Chunk(chunk_id(document.id, text, 0), document.id, number % DOCUMENT_CHUNKS, text, 2 * CHUNK_WORDS), vector
    )


@contextlib.contextmanager
def serving(data: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The port and the process of a service over a data folder, once its model is loaded."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = [sys.executable, "-m", "workers", "serve", "--port", str(port)]
    with subprocess.Popen(program, env=command.environment(data), stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + READY_S
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the service does not get ready")
                time.sleep(0.2)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Service:
    """A running service, and the processor time of an answer: its own, the model's process included."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    def measured(self, callers: Callers, number: int, queries: int) -> dict[str, float]:
        """The figures of `Callers.run`, and the milliseconds of processor time that the service took for an answer."""
        before = self._cpu_s()
        found = callers.run(number, queries)
        return {**found, "service_cpu_ms": 1e3 * (self._cpu_s() - before) / queries}

    def memory_mb(self) -> float:
        """What its processes have in memory of their own, and of what they share each its part."""
        return sum(one.memory_full_info().pss for one in self._processes()) / 2**20

    def _cpu_s(self) -> float:
        times = [one.cpu_times() for one in self._processes()]
        return sum(one.user + one.system for one in times)

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


def beside_a_load(callers: Callers, data: Path, files: Sequence[Path], queries: int) -> dict[str, float]:
    """Searches by one caller while a load runs in the same data folder, until the load has ended."""
    ended = threading.Event()
    loads: list[command.Ran] = []

    def load() -> None:
        try:
            loads.append(command.load(data, *map(str, files)))
        finally:
            ended.set()

    thread = threading.Thread(target=load)
    thread.start()
    rounds = []
    while not ended.is_set():
        rounds.append(callers.run(1, queries))
    thread.join()
    if not loads:
        raise SystemExit("the load beside the searches failed")
    found = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {**found, "load_chunks_per_s": int(loads[0].answer["chunks"]) / loads[0].seconds}


def made(data: Path, chunks: int, words: Words, *, with_graph: bool) -> None:
    """Make a data folder whose collection has so many chunks."""
    first = data.with_name("first.txt")
    first.write_text(words.draw(CHUNK_WORDS), "utf-8")
    command.load(data, str(first))
    settings = load_settings(data_dir=data)
    with contextlib.closing(open_store(settings, role="owner")) as store:
        began = time.perf_counter()
        fill(store, open_physical(store, settings.collection), chunks, words)
        print(f"{chunks:,} chunks written in {time.perf_counter() - began:.0f} s", flush=True)
        physical = open_physical(store, settings.collection)
    if with_graph:
        began = time.perf_counter()
        if not graph.build(settings.data_dir / "qdrant", physical):
            raise SystemExit("the graph was not built")
        print(f"its graph built in {time.perf_counter() - began:.0f} s", flush=True)


def measured(data: Path, questions: Sequence[str], files: Sequence[Path]) -> tuple[dict[str, dict[str, float]], float]:
    """The figures by who asks, and the memory of the service in MB."""
    everything = command.run(data, "token", "add", "everything").strip()
    half = command.run(data, "token", "add", "half", "--filter", f"folder={FOLDER}").strip()
    few, many = len(questions) // 4, len(questions)
    with serving(data) as (port, process):
        service = Service(process)
        free, limited = Callers(port, everything, questions), Callers(port, half, questions)
        free.run(CALLERS, few)  # the first answers read the vectors into memory
        figures = {
            "one": service.measured(free, 1, few),
            "one, token with a filter": service.measured(limited, 1, few),
            "eight": service.measured(free, CALLERS, many),
            "eight, token with a filter": service.measured(limited, CALLERS, many),
        }
        memory_mb = service.memory_mb()
        figures["one, beside a load"] = beside_a_load(free, data, files, few // 8)
    return figures, memory_mb


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=400, help="searches of one caller; eight make four times as many")
    parser.add_argument("--load-pages", default="60")
    parser.add_argument("--without-graph", action="store_true", help="compare questions with every vector")
    options = parser.parse_args()
    words = Words(3)
    questions = [words.draw(random.Random(number).randint(*QUESTION_WORDS)) for number in range(4 * options.queries)]
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        made(data, options.chunks, words, with_graph=not options.without_graph)
        figures, memory_mb = measured(data, questions, spread(pages(), options.load_pages))
    print(machine())
    keys = ("p50_ms", "p99_ms", "queries_per_s", "service_cpu_ms", "callers_cpu_ms")
    rows = [(name, *(round(one[key], 1) if key in one else "" for key in keys)) for name, one in figures.items()]
    print(table(("callers", "p50, ms", "p99, ms", "queries/s", "processor time of the service, ms", "of the callers, ms"), rows))
    print(f"memory of the service: {memory_mb:.0f} MB")
    save("serve", {"chunks": options.chunks, "graph": not options.without_graph, "figures": figures, "memory_mb": memory_mb})


if __name__ == "__main__":
    main()

"""What ledger, staging and queue cost one small document, with more and more documents in the ledger already.

    python -m benchmarks.overhead [--known 10000,100000,1000000] [--documents 2000]

At each point the ledger holds that many documents of the same run, half of them done and half still waiting. Then new small
files are staged (discovered, hashed, copied, recorded), and as many waiting documents go through the rest but for parser, model
and store: formed into batches, sent through the folder broker, claimed, recorded as parsed, sent again, claimed, recorded
as indexed; and the display asks for the state of the run as often as a load does. SQLite, one process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty

from celery import Celery
from sqlalchemy import update

from benchmarks.report import machine, save, table
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claim
from pipeline.ledger.flow import Batch
from pipeline.ledger.schema import documents, writing
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.settings import load_settings
from pipeline.staging import Staging, open_staging
from pipeline.steps.load import WINDOW_FILES, Load
from pipeline.steps.scope import Scope
from pipeline.types import DocumentState, SourceFile, Stage, StagedFile, document_id
from workers.broker.app import make_app
from workers.broker.dispatch import Dispatcher
from workers.broker.queues import Broker
from workers.monitoring.snapshot import WAIT_EVERY_S

COLLECTION = "benchmark"

#: Rows that are added to the ledger in one transaction while it is filled.
FILL_ROWS = 5000


class Clock:
    """Adds up the seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside under `name`."""
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


@dataclass(frozen=True)
class Deployment:
    """A ledger with its staging area and its broker, and the run everything belongs to."""

    ledger: Ledger
    staging: Staging
    app: Celery
    broker: Broker
    dispatcher: Dispatcher
    run: int


def fill(ledger: Ledger, run: int, have: int, until: int) -> None:
    """Add documents to the ledger until it holds `until`; every other one is done, and the others wait."""
    for start in range(have, until, FILL_ROWS):
        names = [f"file:///somewhere/{number // 1000}/{number}.txt" for number in range(start, min(until, start + FILL_ROWS))]
        staged = {
            document_id(COLLECTION, name): StagedFile(SourceFile(name, Path(name), 60, 1), uuid.uuid4().hex * 2, "")
            for name in names
        }
        ledger.intake.record_staged(COLLECTION, run, staged)
        with writing(ledger.engine) as connection:
            done = list(staged)[::2]
            for at in range(0, len(done), 500):
                connection.execute(
                    update(documents).where(documents.c.id.in_(done[at : at + 500])).values(state=DocumentState.INDEXED)
                )


def work(deployment: Deployment, count: int, clock: Clock) -> int:
    """Send `count` waiting documents through queue and ledger; returns how many went through."""
    ledger, broker = deployment.ledger, deployment.broker
    parsed = indexed = 0
    with deployment.app.connection_for_read() as connection:
        queues = {stage: connection.SimpleQueue(stage.value) for stage in Stage}

        def receive(stage: Stage) -> Claim | None:
            try:
                with clock.part("queue"):
                    message = queues[stage].get(block=False)
                    ids = message.payload[0][1]
                    message.ack()
            except Empty:
                return None
            with clock.part("claim"):
                return ledger.work.claim(stage, ids, "benchmark/1")

        while parsed < count:
            with clock.part("dispatch"):
                deployment.dispatcher.sweep()
            while (claim := receive(Stage.PARSE)) is not None:
                following = str(uuid.uuid4())
                with clock.part("record"):
                    parses = [ParsedResult(document.id, "title", "text/plain", "parse") for document in claim.documents]
                    kept = ledger.work.parsed(claim, parses, following)
                    ledger.work.release(claim)
                with clock.part("queue"):
                    broker.send(Batch(following, Stage.EMBED, tuple(kept)))
                parsed += len(kept)
            while (claim := receive(Stage.EMBED)) is not None:
                with clock.part("record"):
                    ledger.work.still_held(claim)
                    results = [
                        IndexedResult(
                            id=document.id,
                            content_hash=document.content_hash,
                            parse_fingerprint="parse",
                            embed_fingerprint="embed",
                            chunks=1,
                            embedded=1,
                        )
                        for document in claim.documents
                    ]
                    indexed += len(ledger.work.indexed(claim, results))
                    ledger.work.release(claim)
    return indexed


def measure(deployment: Deployment, folder: Path, count: int) -> tuple[dict[str, float], float]:
    """Milliseconds a document of each part, and those of one look of the display."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.txt").write_text(f"{folder.name}: note {number}, sensor {number % 97}\n", "utf-8")
    clock = Clock()
    step = Load(
        ledger=deployment.ledger,
        staging=deployment.staging,
        collection=COLLECTION,
        parse_fingerprint="parse",
        embed_fingerprint="embed",
        max_file_bytes=1 << 20,
    )
    with clock.part("stage"):
        step.run(deployment.run, Scope([folder]), lambda _: None)
    indexed = work(deployment, count, clock)
    looks = 5
    began = time.perf_counter()
    for _ in range(looks):
        deployment.ledger.report.progress(deployment.run)
    look_ms = 1000 * (time.perf_counter() - began) / looks
    per_document = {
        name: 1000 * seconds / (count if name == "stage" else indexed) for name, seconds in sorted(clock.seconds.items())
    }
    return per_document, look_ms


def main() -> None:
    """Measure at each size of the ledger, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", default="10000,100000,1000000", help="documents in the ledger, ascending, comma-separated")
    parser.add_argument("--documents", type=int, default=2000, help="documents that are measured at each point")
    options = parser.parse_args()
    points: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "data", redis_url="", qdrant_url="", database_url="").prepare()
        ledger = Ledger.open(settings.ledger_url)
        app = make_app(settings)
        broker = Broker(app)
        deployment = Deployment(
            ledger=ledger,
            staging=open_staging(settings.staging_location),
            app=app,
            broker=broker,
            dispatcher=Dispatcher(ledger, broker, settings),
            run=ledger.runs.start(COLLECTION),
        )
        have = 0
        for known in map(int, options.known.split(",")):
            fill(ledger, deployment.run, have, known)
            have = known
            parts, look_ms = measure(deployment, folder / f"new{known}", options.documents)
            points[known] = {name: round(ms, 3) for name, ms in parts.items()}
            points[known] |= {"total": round(sum(parts.values()), 3), "one look of the display": round(look_ms, 2)}
            print(f"{known} documents: {points[known]}", flush=True)
        ledger.close()
    names = list(next(iter(points.values())))
    print(machine())
    print(table(("documents in the ledger", *(f"{name}, ms" for name in names)), [(n, *p.values()) for n, p in points.items()]))
    save("overhead", {"documents": options.documents, "window": WINDOW_FILES, "display_every_s": WAIT_EVERY_S, "ms": points})


if __name__ == "__main__":
    main()

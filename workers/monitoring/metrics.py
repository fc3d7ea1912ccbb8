"""What Prometheus is told: metrics made of what ledger, broker and disk have said.

Counters come from the ledger, so they count on when a worker, a host or the exporter starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pipeline.ledger.generations import Collection
from pipeline.ledger.life import Pulse
from pipeline.ledger.measures import QUARANTINES
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Grouped, Held
from pipeline.ledger.schema import LIVE, SUPERSEDED
from pipeline.telemetry.counters import BOUNDS, COUNT, SUM, UNBOUNDED, Key
from pipeline.types import RUN, SCHEDULE, DocumentState, Reason, Stage

#: What runs can be, and how they can end: a series that appears with its first run would have no rise.
ACTIONS, OUTCOMES = ("load", "sync", "delete", "verify", "reindex"), ("done", "partly", "refused", "failed", "interrupted")

#: Values of a metric's labels, and its number.
Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the ledger says at little cost, however many documents it holds."""

    measures: Mapping[Key, float]
    workers: list[WorkerRow]
    pulse: Pulse
    open: Mapping[str, int]  #: documents by state
    outcomes: Samples  #: runs by action and outcome


@dataclass(frozen=True, slots=True)
class Counts:
    """What the ledger says after a look at every document."""

    at: float  #: seconds since the epoch
    held: list[Held]
    quarantined: list[Grouped]
    generations: list[Collection]


def about(version: str) -> Metric:
    """Which kb-ingest this is."""
    return _gauge("build_info", "Version of kb-ingest; always 1.", ["version"], {(version,): 1})


def up(part: str, answers: bool) -> Metric:
    """Whether the ledger or the broker answers."""
    return _gauge(f"{part}_up", f"Whether the {part} answers.", [], {(): float(answers)})


def queued(depths: Mapping[str, int]) -> Metric:
    """Messages by queue."""
    text = "Messages that wait in a queue and that no worker has fetched; each is for several documents."
    return _gauge("queue_messages", text, ["queue"], {(queue,): depth for queue, depth in depths.items()})


def disk(free: int, size: int) -> Iterator[Metric]:
    """The data folder's disk, in bytes."""
    yield _gauge("data_disk_free_bytes", "Room left on the disk of the data folder.", [], {(): free})
    yield _gauge("data_disk_size_bytes", "Size of the disk of the data folder.", [], {(): size})


def measured(measures: Mapping[Key, float]) -> Iterator[Metric]:
    """What workers have counted."""
    for label, text in (
        ("documents", "Documents that became searchable, new versions included."),
        ("chunks", "Chunks of them."),
        ("tokens", "Tokens of their chunks."),
        ("bytes", "Bytes of their files."),
    ):
        yield _counter(f"indexed_{label}", text, [], {(): measures.get(("indexed", label, COUNT), 0)})
    embedded = measures.get(("indexed", "embedded", COUNT), 0)
    yield _counter("embedded_chunks", "Chunks that were embedded; the others had their vectors already.", [], {(): embedded})
    expiries: Samples = {(stage,): measures.get(("lease_expiries", stage, COUNT), 0) for stage in (*map(str, Stage), SCHEDULE, RUN)}
    expiries_text = "Leases taken back from workers that died, hung or were told to stop without handing back."
    yield _counter("lease_expiries", expiries_text, ["stage"], expiries)
    quarantines: Samples = {(str(reason),): measures.get((QUARANTINES, str(reason), COUNT), 0) for reason in Reason}
    yield _counter("quarantines", "Documents that were quarantined, each time it happened.", ["reason"], quarantines)
    stages = tuple(map(str, Stage))
    yield _histogram(measures, "wait_seconds", "Time that a document waits until a worker of the stage takes it.", stages)
    yield _histogram(measures, "stage_seconds", "A document's share of a stage's work.", stages)
    yield _histogram(measures, "upsert_seconds", "One write of points to the store.")
    yield _histogram(measures, "batch_fill", "Tokens of a call of the model, of those it may have.", name="batch_fill_ratio")


def work(figures: Figures) -> Iterator[Metric]:
    """Queues, workers and runs."""
    roles = [worker.role for worker in figures.workers]
    waiting: Samples = {(stage.value,): figures.open[stage.waiting] for stage in Stage}
    yield _gauge("queue_documents", "Documents that wait for a stage, those in messages included.", ["queue"], waiting)
    serving: Samples = {(stage.value,): roles.count(stage.value) for stage in Stage}
    yield _gauge("queue_workers", "Workers that serve a queue, seen in the last 30 s.", ["queue"], serving)
    yield _gauge("open_documents", "Documents with work ahead of them.", [], {(): sum(figures.open.values())})
    moved_at = max(figures.pulse.event_at or 0.0, figures.pulse.beat_at or 0.0)
    yield _gauge("last_progress_timestamp_seconds", "When a document or a worker moved last; 0: never.", [], {(): moved_at})
    labels = ["worker", "role", "device"]
    # The device of a worker behind a model server is its URL, which is nobody's business here.
    rows = {(worker.name, worker.role, "http" if "://" in worker.device else worker.device): worker for worker in figures.workers}
    busy: Samples = {label: worker.busy_s for label, worker in rows.items()}
    yield _counter("worker_busy_seconds", "Time at work, of all processes of a worker.", labels, busy)
    processes: Samples = {label: worker.processes for label, worker in rows.items()}
    yield _gauge("worker_processes", "Processes of a worker that work at the same time.", labels, processes)
    # None yet of a worker that starts, and none ever of one that works on no documents: unknown is not 0 bytes.
    memory: Samples = {label: worker.memory_bytes for label, worker in rows.items() if worker.memory_bytes}
    yield _gauge("worker_memory_bytes", "Memory of the device, where it has its own, else of one process.", labels, memory)
    trouble: Samples = {(worker.name, worker.role): bool(worker.complaint) for worker in figures.workers}
    yield _gauge("worker_trouble", "Whether something keeps a worker from its work.", ["worker", "role"], trouble)
    outcomes = {(action, outcome): 0.0 for action in ACTIONS for outcome in OUTCOMES} | dict(figures.outcomes)
    yield _counter("runs", "Runs that have ended.", ["action", "outcome"], outcomes)


def documents(counts: Counts) -> Iterator[Metric]:
    """What there is, by collection; a generation that is being built goes by its own name, one that was replaced is left out."""
    left_out = {one.name for one in counts.generations if one.state == SUPERSEDED}
    names = {one.name: one.public for one in counts.generations if one.state == LIVE}
    held = [one for one in counts.held if one.generation not in left_out]
    every = {names.get(name, name) for name in ({one.generation for one in held} | set(names))}
    by_state: dict[tuple[str, ...], float] = {(name, str(state)): 0 for name in sorted(every) for state in DocumentState}
    chunks: dict[tuple[str, ...], float] = {(name,): 0 for name in sorted(every)}
    tokens, size = chunks.copy(), chunks.copy()
    for one in held:
        name = names.get(one.generation, one.generation)
        by_state[name, one.state] = one.documents
        if one.state == DocumentState.INDEXED:
            chunks[name,], tokens[name,], size[name,] = one.chunks, one.tokens, one.bytes
    yield _gauge("documents", "Documents by collection and state.", ["collection", "state"], by_state)
    yield _gauge("collection_chunks", "Chunks of a collection's indexed documents.", ["collection"], chunks)
    yield _gauge("collection_tokens", "Tokens of them.", ["collection"], tokens)
    yield _gauge("collection_bytes", "Bytes of the indexed documents' files.", ["collection"], size)
    # All of them from the start: a reason that appears with its first document would have no rise.
    reasons: dict[tuple[str, ...], float] = {(str(reason),): 0 for reason in Reason}
    for group in counts.quarantined:
        reasons[group.reason,] = reasons.get((group.reason,), 0) + group.documents
    yield _gauge("quarantined_documents", "Quarantined documents by reason; a retry lowers it.", ["reason"], reasons)
    yield _gauge("documents_counted_timestamp_seconds", "When documents were counted last.", [], {(): counts.at})


def _gauge(name: str, text: str, labels: list[str], values: Samples) -> Metric:
    family = GaugeMetricFamily(f"kb_ingest_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Samples) -> Metric:
    family = CounterMetricFamily(f"kb_ingest_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family


def _histogram(measures: Mapping[Key, float], metric: str, text: str, stages: tuple[str, ...] = (), name: str = "") -> Metric:
    family = HistogramMetricFamily(f"kb_ingest_{name or metric}", text, labels=["stage"] if stages else [])
    for label in stages or ("",):
        total, buckets = 0.0, []
        # The ledger has a number for each bucket alone, Prometheus wants that of all values up to a bound.
        for bound in (*BOUNDS[metric], inf):
            total += measures.get((metric, label, f"{bound:g}" if bound < inf else UNBOUNDED), 0)
            buckets.append((str(bound) if bound < inf else UNBOUNDED, total))
        family.add_metric([label] if stages else [], buckets, measures.get((metric, label, SUM), 0))
    return family

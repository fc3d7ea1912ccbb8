"""The counters of all workers, added up."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import Connection, Engine, select, update

from pipeline.ledger.schema import measures, reading, upsert, workers, writing
from pipeline.telemetry.counters import Key, Measured

#: The measure of documents that were quarantined, by reason; unlike the number of quarantined documents, it never decreases.
QUARANTINES = "quarantines"


class Measures:
    """The numbers behind metrics and reports."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self, *metrics: str) -> dict[Key, float]:
        """Values by metric, label and bound, of these metrics or of all."""
        statement = select(measures).order_by(measures.c.metric, measures.c.label)
        if metrics:
            statement = statement.where(measures.c.metric.in_(metrics))
        with reading(self._engine) as connection:
            return {(row.metric, row.label, row.bound): row.value for row in connection.execute(statement)}

    def record(self, measured: Measured) -> None:
        """Add the counts of a process that has nothing else to write to the ledger, and reset them."""
        with writing(self._engine) as connection:
            put(connection, measured)
        measured.clear()


def count(connection: Connection, counts: Mapping[Key, float]) -> None:
    """Add to the values. Call it last in a transaction, because all processes write to these rows and wait for each other."""
    if not counts:
        return
    statement = upsert(connection, measures)
    statement = statement.on_conflict_do_update(
        index_elements=[measures.c.metric, measures.c.label, measures.c.bound],
        set_={"value": measures.c.value + statement.excluded.value},
    )
    # Always in the same order: two processes that each hold a row that the other one needs would deadlock.
    rows = [
        {"metric": metric, "label": label, "bound": bound, "value": value}
        for (metric, label, bound), value in sorted(counts.items())
    ]
    connection.execute(statement, rows)


def put(connection: Connection, measured: Measured) -> None:
    """Record a worker's counts and busy time; like `count`, call it last in a transaction."""
    counts = measured.counts()
    if measured.worker:
        connection.execute(
            update(workers)
            .where(workers.c.name == measured.worker)
            .values(
                busy_s=workers.c.busy_s + measured.busy_s, memory_bytes=measured.memory_bytes(), seen_at=time.time()
            )
        )  # fmt: skip
    count(connection, counts)

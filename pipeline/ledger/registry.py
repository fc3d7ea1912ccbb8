"""The registry of workers: their names, devices and heartbeats."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, update

from pipeline.ledger.schema import reading, upsert, workers, writing

#: Seconds without a heartbeat after which a worker counts as dead: it does not serve its queue, and its name is free.
WORKER_SEEN_S = 30.0

#: The note of a worker that loads its model or is about to.
STARTING = "starting"

#: Begins the note of a worker that cannot work until a person acts.
FATAL = "fatal: "

#: Seconds without a heartbeat after which the row of a worker is removed.
WORKER_KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker that sent a heartbeat lately."""

    name: str
    role: str
    host: str
    pid: int
    device: str
    dtype: str
    chunks_per_s: float
    note: str
    processes: int  #: that work at the same time
    busy_s: float  #: that they worked since the start, all together; of an embed worker, that its model computed
    memory_bytes: int  #: of its device, where that has memory of its own; else of one process
    up_s: float  #: seconds since it was started
    seen_s: float  #: seconds since it was seen

    @property
    def starting(self) -> bool:
        """Whether it is still loading its model."""
        return self.note == STARTING

    @property
    def fatal(self) -> bool:
        """Whether it cannot work until a person acts."""
        return self.note.startswith(FATAL)

    @property
    def complaint(self) -> str:
        """Human-readable reason why it does not work; empty while it works or starts."""
        return "" if self.starting else self.note.removeprefix(FATAL)


class Registry:
    """Worker processes, by name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(
        self,
        name: str,
        role: str,
        host: str,
        pid: int,
        device: str = "",
        dtype: str = "",
        chunks_per_s: float = 0.0,
        note: str = "",
        processes: int = 1,
    ) -> None:
        """Record a worker and what it runs on."""
        now = time.time()
        values = {
            "role": role, "host": host, "pid": pid, "device": device, "dtype": dtype, "chunks_per_s": chunks_per_s,
            "note": note, "seen_at": now, "processes": processes, "busy_s": 0.0,
        }  # fmt: skip
        with writing(self._engine) as connection:
            # Those of killed supervisors, which nobody dropped.
            connection.execute(delete(workers).where(workers.c.seen_at < now - WORKER_KEPT_S))
            statement = upsert(connection, workers).values(name=name, started_at=now, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=[workers.c.name], set_={**values, "started_at": now}))

    def take_name(self, name: str, role: str, host: str, pid: int) -> bool:
        """Take a name for a worker that is about to start, unless a living one has it; one statement, so one of two gets it."""
        now = time.time()
        values = {
            "role": role, "host": host, "pid": pid, "device": "", "dtype": "", "chunks_per_s": 0.0, "note": STARTING,
            "started_at": now, "seen_at": now,
        }  # fmt: skip
        with writing(self._engine) as connection:
            statement = upsert(connection, workers).values(name=name, **values)
            dead = workers.c.seen_at < now - WORKER_SEEN_S
            taken = statement.on_conflict_do_update(index_elements=[workers.c.name], set_=values, where=dead)
            # By what comes back: the count of rows is not known for an insert everywhere.
            return connection.execute(taken.returning(workers.c.name)).first() is not None

    def holder(self, name: str) -> tuple[str, int] | None:
        """Host and process id of the last worker with this name, alive or not."""
        with reading(self._engine) as connection:
            row = connection.execute(select(workers.c.host, workers.c.pid).where(workers.c.name == name)).first()
        return None if row is None else (row.host, row.pid)

    def see(self, name: str, note: str | None = None) -> bool:
        """Record that a worker is alive, and what keeps it from working if anything does; whether it is known at all."""
        values: dict[str, object] = {"seen_at": time.time()}
        if note is not None:
            values["note"] = note
        with writing(self._engine) as connection:
            return bool(connection.execute(update(workers).where(workers.c.name == name).values(values)).rowcount)

    def drop(self, name: str) -> None:
        """Forget a worker that has stopped."""
        with writing(self._engine) as connection:
            connection.execute(delete(workers).where(workers.c.name == name))

    def workers(self) -> list[WorkerRow]:
        """Workers that were seen in the last WORKER_SEEN_S seconds, by name."""
        now = time.time()
        names = [name for name in WorkerRow.__dataclass_fields__ if name in workers.c]
        columns = [workers.c[name] for name in names]
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(*columns, workers.c.started_at, workers.c.seen_at)
                .where(workers.c.seen_at >= now - WORKER_SEEN_S)
                .order_by(workers.c.name)
            )
            return [
                WorkerRow(
                    **{name: row._mapping[name] for name in names}, up_s=max(0.0, now - row.started_at),
                    seen_s=max(0.0, now - row.seen_at),
                )
                for row in rows
            ]  # fmt: skip

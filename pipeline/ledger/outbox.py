"""Notifications of ended runs that are still to be delivered, kept in `meta`: they survive the process that made them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Engine, delete, select, update

from pipeline.ledger.schema import meta, reading, runs, upsert, writing

#: Key of `meta` with the times of the first and the last look for ended runs, and the beginning of the keys of deliveries.
_SEEN, _DELIVERY = "webhook seen", "webhook to "

#: Seconds after which an undelivered notification is given up, and a delivered one forgotten.
KEPT_S = 86_400.0

#: Seconds that are looked at again: a transaction may become visible after a later one.
OVERLAP_S = 60.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification for one receiver."""

    target: str  #: name of the receiver
    run: int
    ended_at: float
    due_at: float = 0.0
    tries: int = 0
    outcome: str = ""  #: `delivered` or `given up`; empty: to be delivered

    @property
    def key(self) -> str:
        """Its key in `meta`."""
        return f"{_DELIVERY}{self.target} {self.run}"


class Outbox:
    """Deliveries of a ledger. Any number of processes may send them: each try is claimed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fill(self, targets: Sequence[str]) -> None:
        """Have every run that has ended since the last call delivered to all targets; the first call only notes the time."""
        now = time.time()
        with reading(self._engine) as connection:
            known = connection.execute(select(meta.c.value).where(meta.c.key == _SEEN)).scalar()
            began, seen = map(float, known.split()) if known is not None else (now, now - OVERLAP_S)
            since = max(began, seen - OVERLAP_S, now - KEPT_S)
            ended = connection.execute(select(runs.c.id, runs.c.finished_at).where(runs.c.finished_at > since)).all()
        if not ended and now - seen < OVERLAP_S / 2:
            return  # no write every few seconds while nothing happens
        with writing(self._engine) as connection:
            values = {"key": _SEEN, "value": f"{began!r} {now!r}"}
            statement = upsert(connection, meta).values(values)
            connection.execute(statement.on_conflict_do_update(index_elements=[meta.c.key], set_=values))
            found = [Delivery(target, run, at, at) for run, at in ended for target in targets]
            rows = [{"key": one.key, "value": _written(one)} for one in found]
            if rows:
                connection.execute(upsert(connection, meta).values(rows).on_conflict_do_nothing())

    def due(self, within_s: float = 0.0) -> list[Delivery]:
        """Deliveries whose next try is due, or will be in some seconds, the oldest first. Those that are too old are forgotten."""
        now = time.time()
        with reading(self._engine) as connection:
            rows = connection.execute(select(meta.c.value).where(meta.c.key.startswith(_DELIVERY))).all()
        found = [Delivery(**json.loads(row[0])) for row in rows]
        old = [one.key for one in found if one.ended_at < now - KEPT_S - OVERLAP_S]
        if old:
            with writing(self._engine) as connection:
                connection.execute(delete(meta).where(meta.c.key.in_(old)))
        wanted = (one for one in found if one.key not in old and not one.outcome and one.due_at <= now + within_s)
        return sorted(wanted, key=lambda one: one.ended_at)

    def claim(self, delivery: Delivery, for_s: float) -> Delivery | None:
        """Begin a try that nobody else makes for some seconds; None if another process was first."""
        return self._replace(delivery, replace(delivery, tries=delivery.tries + 1, due_at=time.time() + for_s))

    def settle(self, claimed: Delivery, *, outcome: str = "", again_s: float = 0.0) -> None:
        """End a try: with an outcome, or with the pause until the next one."""
        self._replace(claimed, replace(claimed, outcome=outcome, due_at=time.time() + again_s))

    def _replace(self, before: Delivery, after: Delivery) -> Delivery | None:
        statement = update(meta).where(meta.c.key == before.key, meta.c.value == _written(before)).values(value=_written(after))
        with writing(self._engine) as connection:
            return after if connection.execute(statement).rowcount == 1 else None


def _written(delivery: Delivery) -> str:
    return json.dumps(asdict(delivery))

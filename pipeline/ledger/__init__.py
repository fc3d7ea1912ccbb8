"""The ledger: the state of every document, kept in SQLite or Postgres; the truth that brokers only hint at.

Its rooms, one file each: `intake` (what a load writes), `flow` (what a dispatcher does), `work` (what workers do),
`collections` (and their generations), `mirror` (a new generation beside the live one), `removal` (what leaves), `sources` (what
is loaded again and again), `schedules` (when), `holds` (which run loads what now), `registry` (workers), `runs` (and
how they compare), `report`, `life` and `retrospect` (what people read: now, by documents, of one run), `measures` (what workers
count).
"""

from __future__ import annotations

from sqlalchemy import Engine

from pipeline.ledger.flow import Flow
from pipeline.ledger.generations import Generations
from pipeline.ledger.holds import Holds
from pipeline.ledger.intake import Intake
from pipeline.ledger.life import Life
from pipeline.ledger.measures import Measures
from pipeline.ledger.mirror import Mirror
from pipeline.ledger.registry import Registry
from pipeline.ledger.removal import Removal
from pipeline.ledger.report import Report
from pipeline.ledger.retrospect import Retrospect
from pipeline.ledger.runs import Runs
from pipeline.ledger.schedules import Schedules
from pipeline.ledger.schema import open_engine
from pipeline.ledger.sources import Sources
from pipeline.ledger.work import Work


class Ledger:
    """An open ledger.

    Safe to use from several threads and processes; each process opens its own. A context manager that closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.intake = Intake(engine)
        self.flow = Flow(engine)
        self.work = Work(engine)
        self.collections = Generations(engine)
        self.mirror = Mirror(engine)
        self.removal = Removal(engine)
        self.sources = Sources(engine)
        self.schedules = Schedules(engine)
        self.holds = Holds(engine)
        self.registry = Registry(engine)
        self.runs = Runs(engine)
        self.report = Report(engine)
        self.life = Life(engine)
        self.retrospect = Retrospect(engine)
        self.measures = Measures(engine)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at a SQLAlchemy URL, making its tables when they are missing.

        Raises LedgerError for a database or schema that cannot be used, LedgerUnavailable where it does not answer.
        """
        return cls(open_engine(url))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


__all__ = [
    "Flow", "Generations", "Holds", "Intake", "Ledger", "Life", "Measures", "Mirror", "Registry", "Removal", "Report",
    "Retrospect", "Runs", "Schedules", "Sources", "Work",
]  # fmt: skip

"""The ledger: the state of every document, kept in SQLite or Postgres. It is authoritative; messages of a broker are only hints.

Its parts, one file each: `intake` (writes of a load), `flow` (the dispatcher), `work` (the workers), `collections` (and their
generations), `mirror` (a new generation next to the live one), `removal` (deletions), `sources` (loaded repeatedly),
`schedules` (and when), `holds` (which run loads which roots now), `registry` (worker processes), `runs` (and how they compare),
`report`, `life` and `retrospect` (for people: the present, documents, one run), `measures` (counters of workers), `fields`
(of metadata), `browse` (documents by page), `tokens` (who may ask the service), `submissions` (repeated requests),
`outbox` (reports of ended runs), `kept` (keeps what was read until somebody commits something), `upkeep` (what nobody needs
any more). `transfer` copies all of it into another database.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from pipeline.ledger.browse import Browse
from pipeline.ledger.facets import Facets
from pipeline.ledger.fields import Fields
from pipeline.ledger.flow import Flow
from pipeline.ledger.generations import Generations
from pipeline.ledger.holds import Holds
from pipeline.ledger.intake import Intake
from pipeline.ledger.kept import Kept
from pipeline.ledger.life import Life
from pipeline.ledger.losses import LossReport
from pipeline.ledger.measures import Measures
from pipeline.ledger.mirror import Mirror
from pipeline.ledger.outbox import Outbox
from pipeline.ledger.registry import Registry
from pipeline.ledger.removal import Removal
from pipeline.ledger.report import Report
from pipeline.ledger.retrospect import Retrospect
from pipeline.ledger.runs import Runs
from pipeline.ledger.schedules import Schedules
from pipeline.ledger.schema import open_engine
from pipeline.ledger.sources import Sources
from pipeline.ledger.sqlite import copy_database, leave_log
from pipeline.ledger.submissions import Submissions
from pipeline.ledger.tokens import Tokens
from pipeline.ledger.upkeep import Upkeep
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
        self.outbox = Outbox(engine)
        self.losses = LossReport(engine)
        self.fields = Fields(engine)
        self.facets = Facets(engine)
        self.browse = Browse(engine)
        self.tokens = Tokens(engine)
        self.submissions = Submissions(engine)
        self.upkeep = Upkeep(engine)
        self.kept = Kept(engine)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at a SQLAlchemy URL and create missing tables.

        Raises LedgerError for an unusable database or schema, LedgerUnavailable if the database does not answer.
        """
        return cls(open_engine(url))

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own, in SQLite, and not a database of a server."""
        return self.engine.dialect.name == "sqlite"

    def copy(self, target: Path) -> None:
        """Copy a ledger that is a file, as it is at one moment, to a new file. Raises LedgerUnavailable."""
        copy_database(self.engine, target)

    def become_one_file(self) -> None:
        """Write back the log of a copied ledger and do without one, so that the database's file holds everything."""
        leave_log(self.engine)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.kept.close()
        self.engine.dispose()


__all__ = [
    "Browse", "Facets", "Fields", "Flow", "Generations", "Holds", "Intake", "Kept", "Ledger", "Life", "LossReport", "Measures",
    "Mirror", "Outbox", "Registry", "Removal", "Report", "Retrospect", "Runs", "Schedules", "Sources", "Submissions", "Tokens",
    "Upkeep", "Work",
]  # fmt: skip

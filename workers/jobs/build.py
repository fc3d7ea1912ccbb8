"""Building a generation: it receives the documents of the live one until both hold the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import TooManyFailures
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.settings import Settings
from pipeline.steps.load import LoadCounts
from pipeline.store.base import VectorStore
from pipeline.text import plural
from pipeline.types import DocumentState, document_id
from workers.jobs.crew import Remover, Working
from workers.jobs.load import too_many
from workers.monitoring.snapshot import WAIT_EVERY_S, Lookout, Moment

#: Max documents added to the new generation in one statement.
GIVEN_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Build:
    """The work on one generation, with what it needs."""

    settings: Settings
    ledger: Ledger
    store: VectorStore
    work: Working
    run: int
    live: Collection  #: where documents come from
    new: Collection  #: what is built
    rate: float  #: max documents per second; 0: no limit
    on_moment: Callable[[Moment], None]  #: receives snapshots

    def catch_up(self) -> None:
        """Copy documents until the new generation holds the same ones as the live one, and both are at rest."""
        pace, after, found = Pace(self.rate), "", 0
        lookout = Lookout(self.settings, self.ledger, self.run, begins=True)
        most = self.settings.max_in_flight // 2 + 1
        opened = self.ledger.intake.open_documents
        while True:
            if time.monotonic() >= lookout.next:
                self._look(lookout)
            room = min(GIVEN_AT_ONCE, most - opened(self.new.name, most), pace.now())
            if room > 0:
                wanted = self.ledger.mirror.lacking(self.live.name, self.new.name, room, after)
                self.ledger.mirror.give(self.new.name, self.run, wanted)
                pace.spend(len(wanted))
                found += len(wanted)
                if wanted:
                    after = wanted[-1].uri
                    continue
                # End of a round: documents that have changed since come earlier in the order of names.
                if not opened(self.new.name, 1) and not opened(self.live.name, 1):
                    surplus = self.ledger.mirror.surplus(self.live.name, self.new.name, GIVEN_AT_ONCE)
                    gone = self.ledger.removal.mark(self.new.name, surplus)
                    if not (found or gone):
                        break
                    after, found = "", 0
                    continue
            time.sleep(WAIT_EVERY_S)
        self._look(lookout)
        with Remover(self.settings.model_copy(update={"delete_grace": 0.0}), self.ledger, self.new.name) as remover:
            while remover.left():
                self.work.tend()
                time.sleep(WAIT_EVERY_S)

    def _look(self, lookout: Lookout) -> None:
        """Tend the workers, and show a snapshot."""
        trouble, report = self.work.tend(), self.ledger.report
        old, built = report.progress(collection=self.live.name), report.progress(collection=self.new.name)
        counts = LoadCounts(discovered=sum(old.states.values()))
        # It receives its documents gradually: those it lacks are left to process, too.
        built = replace(built, left_tokens=max(0, old.tokens - built.written_tokens))
        moment = lookout.look(counts, trouble=trouble, own_workers=self.work.owns_workers, progress=built)
        self.on_moment(moment)
        self._check_failures(moment.progress.states)

    def _check_failures(self, states: dict[str, int]) -> None:
        failed = states.get(DocumentState.QUARANTINED, 0)
        finished = failed + states.get(DocumentState.INDEXED, 0)
        if too_many(self.settings, failed, finished):
            raise TooManyFailures(
                f"{failed} of {plural(finished, 'document')} failed in the new generation; see `kb-ingest quarantine list`"
            )

    def incomplete(self) -> str:
        """A human-readable description of what the new generation lacks; empty if it is complete."""
        report, lost, example = self.ledger.report, 0, ""
        for window in report.expected(self.live.name):
            ids = {document_id(self.new.name, document.uri): document for document in window}
            known = self.ledger.intake.known(list(ids))
            done = {key for key, one in ids.items() if key in known and known[key].indexed_hash == one.content_hash}
            missing = [one.uri for key, one in ids.items() if key not in done]
            lost, example = lost + len(missing), example or next(iter(missing), "")
        if lost:
            return f"{plural(lost, 'document')} could not be re-indexed, e.g. {example}; see `kb-ingest quarantine list`"
        expected = sum(document.chunks for window in report.expected(self.new.name) for document in window)
        points = self.store.count(self.new.physical) if expected else 0
        return (
            "" if points == expected else f"the store holds {plural(points, 'point')} of the new generation instead of {expected}"
        )


class Pace:
    """A rate limit: a token bucket with a capacity of one second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s  #: 0: no limit
        self._held = max(1.0, per_s)
        self._at = time.monotonic()

    def now(self) -> int:
        """How many may be spent now."""
        if not self._per_s:
            return GIVEN_AT_ONCE
        at = time.monotonic()
        self._held = min(max(1.0, self._per_s), self._held + (at - self._at) * self._per_s)
        self._at = at
        return int(self._held)

    def spend(self, count: int) -> None:
        """Spend `count`."""
        self._held -= count

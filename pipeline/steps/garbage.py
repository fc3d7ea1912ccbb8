"""The removal of what nobody needs any more, from the ledger, the store and staging.

Every step is decided by the ledger in a transaction of its own, and each can be repeated, so a process that is killed on the way
leaves nothing that the next call does not find.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pipeline.errors import LedgerUnavailable
from pipeline.ledger import Ledger
from pipeline.staging import Staging
from pipeline.staging.contents import IN_USE_S, Content
from pipeline.store.base import VectorStore

#: Staged files that are decided together. Loads cannot record anything on SQLite meanwhile, so it is a moment's work.
DISCARD_WINDOW = 200

#: Items that a result names; the others are only counted.
LISTED = 1000

#: The ending that a generation's name and its model give a physical collection; see `pipeline.store.names.physical_name`.
_PHYSICAL = re.compile(r"(?:@\d+)?-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Item:
    """Something that nobody needs any more."""

    kind: str  #: copy, chunk file, temporary file, generation, collection of the store, run, key of a request, event, step, loss
    name: str
    age_s: float  #: since its last use
    bytes: int  #: 0 for what is not a file
    note: str = ""


@dataclass(slots=True)
class Kind:
    """Items of one kind, added up."""

    count: int = 0
    bytes: int = 0
    oldest_s: float = 0.0


@dataclass(slots=True)
class Collected:
    """What was removed or, of a dry run, would be."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)  #: the first LISTED
    kept: list[str] = field(default_factory=list)  #: what could not be removed and why, for people

    def add(self, item: Item) -> None:
        """Count an item."""
        self.count(item.kind, 1, item.bytes, item.age_s)
        if len(self.items) < LISTED:
            self.items.append(item)

    def count(self, kind: str, number: int, size: int = 0, oldest_s: float = 0.0) -> None:
        """Count items that have no names."""
        if number:
            found = self.kinds.setdefault(kind, Kind())
            found.count += number
            found.bytes += size
            found.oldest_s = max(found.oldest_s, oldest_s)


@dataclass(frozen=True, slots=True)
class Ages:
    """Ages, in seconds, from which on things are removed."""

    files_s: float  #: staged files, since their last use
    runs_s: float
    events_s: float
    steps_s: float  #: events of steps whose documents have ended
    leftovers_s: float  #: leftovers of the store, builds that were not swapped in, and the generation to which a rollback leads
    rollback_s: float  #: the last of these, if the live generation was made in the same way
    earlier_s: float  #: generations that no rollback leads to, since they were replaced


class Garbage:
    """One removal, or with `dry_run` a look at what it would remove."""

    def __init__(
        self,
        ledger: Ledger,
        staging: Staging,
        store: VectorStore,
        ages: Ages,
        *,
        dry_run: bool = False,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_step` is called often, and may raise an error to end the removal."""
        self._ledger = ledger
        self._staging = staging
        self._store = store
        self._ages = ages
        self._dry_run = dry_run
        self._on_step = on_step
        self._now = time.time()
        self._found = Collected()

    def collect(self) -> Collected:
        """Remove everything; raises StoreUnavailable, StagingUnavailable, LedgerUnavailable, after which it can be repeated."""
        # First the generations: what only they need is not needed after.
        self._generations()
        self._leftovers()
        self._files()
        self._temporary()
        self._runs()
        self._rest()
        if not self._dry_run:
            self._shrink()
        return self._found

    def _generations(self) -> None:
        aliases = set(self._store.aliases().values())
        ages = self._ages
        for old in self._ledger.upkeep.old_generations(self._now, ages.leftovers_s, ages.rollback_s, ages.earlier_s):
            one = old.generation
            self._on_step()
            if one.physical in aliases:
                self._found.kept.append(f"searches still use {one.name}: complete the swap with `kb-ingest rollback`")
                continue
            if not self._dry_run:
                # First from the ledger: a reindex that builds it notices before it writes again, and a rollback finds it gone.
                if not self._ledger.collections.drop(one.name, one.state):
                    continue
                self._store.drop(one.physical)
                self._ledger.collections.dropped(one.physical)
            self._found.add(Item("generation", one.name, self._now - old.at, 0, f"{one.state}, {old.chunks} points"))

    def _leftovers(self) -> None:
        """Physical collections that no generation names: those of generations that were dropped, and ones that look like ours."""
        there = set(self._store.collections())
        named = {one.physical for one in self._ledger.collections.all()} | set(self._store.aliases().values())
        due = {name: since for name, since in self._ledger.collections.dropping().items() if name not in named}
        publics = self._ledger.collections.names()
        unnamed = {name for name in there - named - due.keys() if _is_ours(name, publics)}
        seen = self._ledger.upkeep.leftovers(unnamed, remember=not self._dry_run)
        due |= {name: since for name, since in seen.items() if self._now - since >= self._ages.leftovers_s}
        for physical, since in due.items():
            self._on_step()
            if not self._dry_run:
                if self._ledger.upkeep.is_named(physical):
                    continue
                self._store.drop(physical)
                self._ledger.collections.dropped(physical)
            if physical in there:
                self._found.add(Item("collection of the store", physical, max(0.0, self._now - since), 0, "no generation names it"))

    def _files(self) -> None:
        before = self._now - max(self._ages.files_s, IN_USE_S)
        old = (one for one in self._staging.contents() if one.used_at < before)
        while window := list(islice(old, DISCARD_WINDOW)):
            self._on_step()
            for one in self._discarded(window, before):
                kind = "chunk file" if one.is_chunk_file else "copy"
                self._found.add(Item(kind, one.key, self._now - one.used_at, one.bytes))
        if not self._dry_run:
            self._staging.compact(self._on_step)

    def _discarded(self, window: Sequence[Content], before: float) -> Iterator[Content]:
        unneeded = self._ledger.upkeep.unneeded(window)
        if self._dry_run or not unneeded:
            yield from unneeded
            return
        gone = set(self._ledger.upkeep.discard(unneeded, lambda still: self._staging.discard([one.key for one in still], before)))
        yield from (one for one in unneeded if one.key in gone)

    def _temporary(self) -> None:
        for one in self._staging.abandoned():
            self._found.add(Item("temporary file", one.key, self._now - one.used_at, one.bytes))
        if not self._dry_run:
            self._staging.sweep()

    def _runs(self) -> None:
        before = self._now - self._ages.runs_s
        for window in self._ledger.upkeep.old_runs(before):
            self._on_step()
            if not self._dry_run:
                self._ledger.upkeep.forget_runs([one.id for one in window], before)
            for one in window:
                self._found.add(Item("run", f"{one.id}", self._now - one.at, 0, f"{one.action} of {one.collection}"))

    def _rest(self) -> None:
        """Events, keys of requests and losses: many, small and without names."""
        upkeep, life = self._ledger.upkeep, self._ledger.life
        self._on_step()
        events_s, steps_s = self._ages.events_s, self._ages.steps_s
        if self._dry_run:
            counts = (life.old_events(events_s), life.old_steps(steps_s, events_s), upkeep.old_submissions(), upkeep.stray_losses())
        else:
            counts = (life.forget(events_s), life.forget_steps(steps_s), upkeep.forget_submissions(), upkeep.forget_stray_losses())
        for kind, number in zip(("event", "step", "key of a request", "loss"), counts, strict=True):
            self._found.count(kind, number)

    def _shrink(self) -> None:
        """Make the ledger's file smaller. Whatever keeps it large, everything else has been done."""
        try:
            self._ledger.upkeep.give_back(self._on_step)
        except LedgerUnavailable as error:
            self._found.kept.append(str(error))


def _is_ours(physical: str, publics: Sequence[str]) -> bool:
    """Whether a physical collection has a name that a generation of one of these collections would get.

    A server may have collections of other programs, and of other ledgers.
    """
    return any(physical.startswith(public) and _PHYSICAL.fullmatch(physical[len(public) :]) for public in publics)

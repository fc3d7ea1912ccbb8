"""Only one run at a time loads a source: its process sends heartbeats for a lease, and a second run is refused."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from pipeline.errors import KbError, LeaseLost, SourceBusy
from pipeline.ledger import Ledger
from pipeline.ledger.holds import Hold
from pipeline.ledger.runs import NewRun
from pipeline.sources.uris import shown_path
from workers.process.alive import is_alive

log = logging.getLogger(__name__)

#: Max seconds between two heartbeats of a run; a second run waits for one before it considers the first alive.
BEAT_EVERY_S = 2.0

#: Seconds between two checks for a heartbeat.
LOOK_EVERY_S = 0.2

#: Seconds without a heartbeat after which a waiting run reports why it waits.
TELL_S = 2 * BEAT_EVERY_S


class Beating:
    """Sends heartbeats for a lease while this process lives; a context manager.

    A thread sends them, unlike those of documents: listing a large source may take any time, and two runs at once are worse
    than a hung run that the user must end.
    """

    def __init__(self, beat: Callable[[], None], lease_s: float) -> None:
        self._beat = beat  #: raises LeaseLost if the lease is gone
        self._every_s = min(BEAT_EVERY_S, lease_s / 4)
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> Beating:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def still_ours(self) -> None:
        """Raises LeaseLost if the lease was taken back."""
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._beat()
                told = ""
            except LeaseLost as error:
                self._lost = error
                return
            except KbError as error:
                if str(error) != told:
                    log.warning("%s", error)
                told = str(error)
            self._stop.wait(self._every_s)


@contextmanager
def holding(ledger: Ledger, new: NewRun, roots: Sequence[str], lease_s: float) -> Iterator[tuple[int, Callable[[], None]]]:
    """Open a run that holds these roots until the block ends; gives its number and a check that raises LeaseLost.

    Raises SourceBusy if another run holds one of the roots.
    """
    ours = _begin(ledger, new, roots, lease_s)
    try:
        with Beating(partial(ledger.holds.beat, ours), lease_s) as beating:
            yield ours.run, beating.still_ours
    finally:
        try:
            ledger.holds.end(ours.lease)
        except KbError as error:  # it expires by itself, later
            log.warning("%s", error)


def holder(ledger: Ledger, collection: str, roots: Sequence[str]) -> Hold | None:
    """The run that holds one of these roots, unless its process is known to be dead."""
    found = ledger.holds.holder(collection, roots)
    return None if found is None or _is_dead(found.owner) else found


def told(hold: Hold, roots: Sequence[str]) -> str:
    """A human-readable text that names the run holding a source."""
    what = f"source {hold.source!r}" if hold.source else shown_path(next(root for root in roots if root in hold.roots))
    doing = "synced" if hold.action == "sync" else "loaded"
    _, host, _, process = _parts(hold.owner)
    began = time.localtime(hold.since)
    when = time.strftime("%H:%M" if began[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", began)
    return f"{what} is being {doing} by run {hold.run} (pid {process} on {host}, since {when})"


def _begin(ledger: Ledger, new: NewRun, roots: Sequence[str], lease_s: float) -> Hold:
    """Begin the run as soon as no living process holds its roots; raises SourceBusy."""
    owner = _owner(new.action)
    while True:
        found, is_ours = ledger.holds.begin(new, roots, owner)
        if is_ours:
            return found
        _see_out(ledger, found, roots, lease_s)


def _see_out(ledger: Ledger, found: Hold, roots: Sequence[str], lease_s: float) -> None:
    """Return when a hold has ended or its process is dead; raises SourceBusy if the process is alive.

    A dead process of this host is recognized at once. Any other process is alive if it sends a heartbeat, and dead after
    `lease_s` without one. Taking the lease back needs no dispatcher.
    """
    began, warned = time.monotonic(), False
    while not _is_dead(found.owner):
        now = ledger.holds.holder(found.collection, found.roots)
        if now is None or now.lease != found.lease:
            return
        if now.beat != found.beat:
            raise SourceBusy(f"{told(found, roots)}; wait for it to finish, or stop it")
        quiet_s = time.monotonic() - began
        if quiet_s >= lease_s:
            break
        if quiet_s >= TELL_S and not warned:
            log.warning("%s but sends no heartbeat; after %.0f s without one this run begins", told(found, roots), lease_s)
            warned = True
        time.sleep(LOOK_EVERY_S)
    ledger.holds.take_back(found)


def _owner(action: str) -> str:
    """This process, with the place in which its id is unique: `sync-3fa9c1d2@host/4711`."""
    return f"{action}-{_place()}@{socket.gethostname()}/{os.getpid()}"


def _parts(owner: str) -> tuple[str, str, str, str]:
    """Action, host, place and process id of `_owner`."""
    name, _, process = owner.rpartition("/")
    head, _, host = name.partition("@")
    action, _, place = head.partition("-")
    return action, host, place, process


def _is_dead(owner: str) -> bool:
    """Whether a process is known to be dead: one of this host and, in containers, of this container."""
    _, host, place, process = _parts(owner)
    if (host, place) != (socket.gethostname(), _place()):
        return False
    return not is_alive(int(process))


@cache
def _place() -> str:
    """The scope of process ids: a boot of a kernel and a pid namespace, as two containers may have one host name."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no Linux, and no containers
        return ""
    return hashlib.sha256(f"{kernel} {namespace}".encode()).hexdigest()[:8]

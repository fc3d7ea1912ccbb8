"""The packs of a staging folder: small contents are found in them, added in new ones, emptied out, and moved together."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pipeline.errors import StagingUnavailable
from pipeline.files.replace import sync_folder
from pipeline.staging.copies import join_key, split_key
from pipeline.staging.pack import Entry, NotAPack, Pack, PackWriter, Wanted, has_vanished

log = logging.getLogger(__name__)

#: Maximum bytes, and number, of the contents of a pack. The first bounds what has to be written again for one that is emptied.
PACK_BYTES, PACK_ENTRIES = 128 << 20, 1 << 17

#: A pack with fewer contents than this, and half of PACK_BYTES at most, is small; from this many on, small ones are merged.
SMALL_ENTRIES, SMALL_PACKS = 1 << 14, 32

#: Contents that are read at once while packs are merged.
READ_ENTRIES = 256

#: Attempts to read contents whose pack has been merged into another one meanwhile.
TRIES = 5

ENDING = ".pack"


class Place(NamedTuple):
    """Where a content is."""

    pack: Pack
    entry: Entry


@dataclass(slots=True)
class _Group:
    """Packs that should become one."""

    packs: list[Pack] = field(default_factory=list)
    count: int = 0  #: of the contents
    size: int = 0  #: their bytes
    wasteful: bool = False  #: whether half of one of them is gone


class Packs:
    """The packs in a folder, which several processes and hosts may use; for any thread.

    Nobody waits for anybody: a pack appears whole, and only `empty`, `unite` and `tidy`, which need a lock of the caller's, change
    or remove one. What this object knows may be old. So what it does not find it looks for again in a new listing.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        self._scratch = scratch
        self._packs: dict[str, Pack] = {}
        self._torn: set[str] = set()  #: names of files that are no packs
        self._lock = threading.Lock()

    def refresh(self) -> list[Pack]:
        """Look which packs there are; return those that are new. Raises OSError."""
        with self._lock:
            try:
                # Listed, and not only asked for its time: opening a folder is what makes NFS ask the server.
                with os.scandir(self.folder) as listing:
                    names = {entry.name for entry in listing if entry.name.endswith(ENDING)}
            except FileNotFoundError:
                names = set()
            new: dict[str, Pack] = {}
            for name in names - self._packs.keys() - self._torn:
                try:
                    new[name] = Pack.open(f"{self.folder}/{name}")
                except OSError as error:
                    if not has_vanished(error):
                        raise
                except NotAPack:
                    log.warning(
                        "%s/%s is damaged: its documents are loaded and parsed again when they are needed", self.folder, name
                    )
                    self._torn.add(name)
            self._packs = {name: pack for name, pack in self._packs.items() if name in names} | new
            self._torn &= names
            return list(new.values())

    def torn(self) -> list[str]:
        """Paths of files that are no packs."""
        self.refresh()
        return [f"{self.folder}/{name}" for name in sorted(self._torn)]

    def find(self, keys: Iterable[str]) -> dict[str, Place]:
        """Where these contents are, each in one place; those that are missing are left out. Raises OSError."""
        wanted = _wanted(keys)
        found = self._find(wanted, list(self._packs.values()))
        if len(found) < len(wanted) and (new := self.refresh()):
            found |= self._find({key: one for key, one in wanted.items() if key not in found}, new)
        return found

    def _find(self, wanted: Mapping[str, Wanted], packs: Sequence[Pack]) -> dict[str, Place]:
        found: dict[str, Place] = {}
        left = dict(wanted)
        for pack in reversed(packs):  # what is asked for was mostly added lately
            if not left:
                break
            try:
                here = {key: Place(pack, entry) for key, entry in pack.search(left).items()}
            except OSError as error:  # merged into another pack, which is among the new ones
                self._forget(pack, error)
                continue
            found |= here
            for key in here:
                del left[key]
        return found

    def instances(self, keys: Iterable[str]) -> dict[str, list[Place]]:
        """All places of these contents: one that is put again while nobody may need it is in two packs. Raises OSError."""
        self.refresh()
        wanted = _wanted(keys)
        found: dict[str, list[Place]] = defaultdict(list)
        for pack in list(self._packs.values()):
            for key, place in self._find(wanted, [pack]).items():
                found[key].append(place)
        return found

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Contents; those that are missing are left out, and damaged ones are marked as gone and left out. Raises OSError."""
        left, found = set(keys), dict[str, bytes]()
        for _ in range(TRIES):
            by_pack: dict[str, list[tuple[str, Place]]] = defaultdict(list)
            for key, place in self.find(left).items():
                by_pack[place.pack.path].append((key, place))
            if not by_pack:
                break
            for path, places in by_pack.items():
                pack = places[0][1].pack
                try:
                    read = pack.read([place.entry for _, place in places])
                except OSError as error:
                    self._forget(pack, error)
                    continue
                damaged = [place.entry for (_, place), data in zip(places, read, strict=True) if data is None]
                found |= {key: data for (key, _), data in zip(places, read, strict=True) if data is not None}
                if damaged:
                    log.warning("%s has %d damaged contents", path, len(damaged))
                    pack.empty(damaged)
            left -= found.keys()
        return found

    def add(self, contents: Mapping[str, bytes], now: float) -> None:
        """Add contents in a new pack; their keys must be such as `split_key` knows. Raises OSError."""
        with PackWriter(self._new()) as writer:
            for key, data in contents.items():
                parts = split_key(key)
                assert parts is not None
                writer.add(*parts, data, int(now))
            self._move_in(writer)

    def _new(self) -> str:
        return f"{self._scratch}/{uuid.uuid4().hex}{ENDING}"

    def _move_in(self, writer: PackWriter) -> None:
        writer.finish()
        name = os.path.basename(writer.path)
        target = f"{self.folder}/{name}"
        try:
            os.rename(writer.path, target)
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.rename(writer.path, target)
        pack = Pack.open(target)
        with self._lock:
            self._packs[name] = pack

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All contents with their keys, each at least once, whatever is merged meanwhile. Raises OSError."""
        seen: set[str] = set()
        vanished = True
        while vanished:
            vanished = False
            self.refresh()
            for pack in [pack for pack in self._packs.values() if pack.path not in seen]:
                seen.add(pack.path)
                try:
                    yield from ((join_key(entry.digest, entry.label), entry) for entry in pack.entries())
                except OSError as error:
                    self._forget(pack, error)
                    vanished = True

    def empty(self, keys: Iterable[str], before: float) -> set[str]:
        """Overwrite contents that came before a time, wherever they are; under the caller's lock.

        Returns the keys of those that came at no other time, too. Raises OSError.
        """
        gone: set[str] = set()
        by_pack: dict[str, list[Place]] = defaultdict(list)
        for key, places in self.instances(keys).items():
            old = [place for place in places if place.entry.put_at < before]
            for place in old:
                by_pack[place.pack.path].append(place)
            if len(old) == len(places):
                gone.add(key)
        for places in by_pack.values():
            places[0].pack.empty([place.entry for place in places])
        return gone

    def are_many(self) -> bool:
        """Whether so many packs are small that they should be merged."""
        return sum(_is_small(len(pack), pack.records_at) for pack in list(self._packs.values())) >= SMALL_PACKS

    def groups(self, on_step: Callable[[], None] = lambda: None, *, thorough: bool = False) -> list[list[Pack]]:
        """Packs of which each list should become one: small ones and, if `thorough`, those of which half is gone.

        With `thorough` every record is read; `on_step` is called for each pack. Raises OSError.
        """
        self.refresh()
        groups = [_Group()]
        for pack in sorted(self._packs.values(), key=lambda pack: pack.records_at):
            on_step()
            count, size = self._left(pack) if thorough else (len(pack), pack.records_at)
            wasteful = not count or size < pack.records_at / 2
            if not wasteful and not _is_small(count, size):
                continue
            if groups[-1].count + count > PACK_ENTRIES or groups[-1].size + size > PACK_BYTES:
                groups.append(_Group())
            groups[-1].packs.append(pack)
            groups[-1].count += count
            groups[-1].size += size
            groups[-1].wasteful |= wasteful
        return [group.packs for group in groups if len(group.packs) > 1 or group.wasteful]

    def _left(self, pack: Pack) -> tuple[int, int]:
        """The number and bytes of a pack's contents that are not gone."""
        count = size = 0
        try:
            for entry in pack.entries():
                count, size = count + 1, size + entry.length
        except OSError as error:
            self._forget(pack, error)
        return count, size

    def unite(self, packs: Sequence[Pack]) -> None:
        """Move the contents of some packs into a new one, which is there before they are removed; under the caller's lock.

        After a kill in between, `tidy` removes them. Raises OSError.
        """
        packs = [pack for pack in packs if os.path.exists(pack.path)]  # the others were merged before the lock was taken
        # The latest time of each content: it protects one that a load has put again.
        times: dict[tuple[bytes, str], int] = {}
        for pack in packs:
            for entry in pack.entries():
                times[entry.digest, entry.label] = max(entry.put_at, times.get((entry.digest, entry.label), 0))
        if times:
            with PackWriter(self._new(), [os.path.basename(pack.path) for pack in packs]) as writer:
                for pack in packs:
                    self._copy(pack, times, writer)
                self._move_in(writer)
            sync_folder(self.folder)
        for pack in packs:
            self._remove(pack)

    def _copy(self, pack: Pack, times: dict[tuple[bytes, str], int], writer: PackWriter) -> None:
        """Copy those contents of a pack that `times` has, and take them out of it."""
        entries = sorted(pack.entries(), key=lambda entry: entry.offset)
        for start in range(0, len(entries), READ_ENTRIES):
            window = entries[start : start + READ_ENTRIES]
            for entry, data in zip(window, pack.read(window), strict=True):
                if data is not None and (put_at := times.pop((entry.digest, entry.label), None)) is not None:
                    writer.add(entry.digest, entry.label, data, put_at)

    def tidy(self) -> None:
        """Remove packs whose contents are in another one, after somebody was killed; under the caller's lock. Raises OSError."""
        self.refresh()
        for name in {name for pack in self._packs.values() for name in pack.replaces} & self._packs.keys():
            self._remove(self._packs[name])

    def _remove(self, pack: Pack) -> None:
        with self._lock:
            self._packs.pop(os.path.basename(pack.path), None)
        Path(pack.path).unlink(missing_ok=True)

    def _forget(self, pack: Pack, error: OSError) -> None:
        """Forget a pack that is gone; raise any other error."""
        if not has_vanished(error):
            raise error
        with self._lock:
            self._packs.pop(os.path.basename(pack.path), None)


def _wanted(keys: Iterable[str]) -> dict[str, Wanted]:
    return {key: Wanted.of(*parts) for key in keys if (parts := split_key(key)) is not None}


def _is_small(count: int, size: int) -> bool:
    return count < SMALL_ENTRIES and size <= PACK_BYTES / 2


class PackFolder:
    """Writes contents into new packs of a folder that nobody else writes to, such as one of a backup; a context manager."""

    def __init__(self, folder: Path, on_pack: Callable[[Path], None]) -> None:
        """`on_pack` gets the path of each finished pack."""
        self._folder = folder
        self._on_pack = on_pack
        self._writer: PackWriter | None = None

    def add(self, key: str, data: bytes, put_at: float) -> None:
        """Add a content; raises OSError."""
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = PackWriter(f"{self._folder}/{uuid.uuid4().hex}{ENDING}")
        parts = split_key(key)
        assert parts is not None
        self._writer.add(*parts, data, int(put_at))
        if len(self._writer) >= PACK_ENTRIES or self._writer.bytes >= PACK_BYTES:
            self._finish()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with writer:
                writer.finish()
            self._on_pack(Path(writer.path))

    def __enter__(self) -> PackFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._finish()
        elif self._writer is not None:
            self._writer.__exit__(kind, error, trace)


def contents_of(path: Path) -> Iterator[dict[str, bytes]]:
    """The contents of a pack that are whole, in windows. Raises StagingUnavailable for a file that is no pack, OSError."""
    try:
        pack = Pack.open(str(path))
    except NotAPack as error:
        raise StagingUnavailable(f"{path} is no pack, or damaged") from error
    entries = pack.entries()
    while window := list(islice(entries, READ_ENTRIES)):
        keys = (join_key(entry.digest, entry.label) for entry in window)
        yield {key: data for key, data in zip(keys, pack.read(window), strict=True) if data is not None}

"""The first step: compares the files below some roots with the ledger and stages the new ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pipeline.errors import DocumentError, FileGone
from pipeline.filters import Bare
from pipeline.ledger import Ledger
from pipeline.ledger.intake import Known, Refused
from pipeline.metadata import Given, Raw, file_times, fingerprints
from pipeline.parse.kinds import may_hold_records
from pipeline.sources.discover import Omitted, discover
from pipeline.sources.pages import is_page
from pipeline.sources.remotes import Remotes
from pipeline.sources.repositories import is_repository
from pipeline.sources.sidecars import Sidecars
from pipeline.sources.uris import is_remote, name_of
from pipeline.staging import Batch, Staging
from pipeline.staging.copies import copy_hashed
from pipeline.steps.outcomes import Outcomes
from pipeline.steps.scope import Listed, Scope
from pipeline.telemetry.spans import Tracing, Version
from pipeline.types import OPEN_STATES, DocumentState, Program, Reason, RecordFields, SourceFile, StagedFile, document_id

#: Maximum number of files compared and recorded in one transaction.
WINDOW_FILES = 500

#: Files in the first window; each of the next ones has up to twice as many. Nothing can be parsed before it is recorded.
FIRST_FILES = 16


#: Objects fetched at once: each response takes a while, and most of that is waiting.
FETCHES = 16


@dataclass(slots=True)
class LoadCounts:
    """Counts of a load, updated while it is running."""

    discovered: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0  #: could not be staged although they should, or were quarantined before and are unchanged
    bytes: int = 0  #: size of the added and changed files
    omitted: list[Omitted] = field(default_factory=list)  #: the first OMITTED_KEPT
    omitted_count: int = 0


#: Maximum number of omitted paths kept by name; the rest are only counted.
OMITTED_KEPT = 100


#: What happens to a document. Only a comparison with the whole source can find moved and vanished ones.
Action = Literal["added", "changed", "moved", "vanished", "unchanged", "unknown", "skipped"]


@dataclass(frozen=True, slots=True)
class Planned:
    """Entry of a dry run or a plan for one document."""

    action: Action
    uri: str
    bytes: int
    why: str = ""


class Load:
    """Stages the new and changed files below some roots."""

    def __init__(
        self, ledger: Ledger, staging: Staging, collection: str, parse_fingerprint: str, embed_fingerprint: str,
        *, max_file_bytes: int, checksum: bool = False, meta: Mapping[str, Raw] = MappingProxyType({}),
        records: RecordFields | None = None, programs: Set[Program] = frozenset(), file_times: bool = False,
        listed: Listed | None = None, tracing: Tracing | None = None, remotes: Remotes | None = None,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._staging = staging
        self._collection = collection
        self._parse = parse_fingerprint
        self._embed = embed_fingerprint
        self._max_file_bytes = max_file_bytes
        self._checksum = checksum
        self._meta = meta  #: of all documents; an empty text removes a field
        self._records = records  #: how the records of its files are documents; None: as in earlier loads of a file
        self._file_times = file_times  #: whether the times of files are metadata of their documents
        self._programs = programs  #: those that are here: documents that were skipped without one start again
        self._sidecars = Sidecars()
        self._remotes = remotes  #: needed where a root is in none of folders and object stores
        self.listed = listed  #: filled if it is given
        self.counts = LoadCounts()
        self._outcomes = Outcomes("load", tracing)
        self._began: dict[str, int] = {}  #: start of the copying of a file, by URI, in nanoseconds since the epoch

    def run(self, run: int, scope: Scope, on_window: Callable[[LoadCounts], None]) -> LoadCounts:
        """Stage every file in `scope` whose current version the ledger does not know, as part of `run`.

        Calls `on_window` after each window of files. By then these files are safe in staging and ledger, so stopping there
        loses nothing. Raises SourceError for a root that cannot be listed, NoSpace.
        """
        most = FIRST_FILES if any(is_page(str(root)) for root in scope.roots) else WINDOW_FILES  # pages take their time
        for window in _windows(self._files(scope), most):
            self._window(run, window)
            counts = self.counts
            self._ledger.runs.update(
                run, discovered=counts.discovered, unchanged=counts.unchanged, bytes=counts.bytes, added=counts.added,
                changed=counts.changed,
            )  # fmt: skip
            on_window(self.counts)
        return self.counts

    def plan(self, scope: Scope) -> Iterator[Planned]:
        """Report what `run` would do, without changing anything.

        A file whose size or modification time differs counts as changed here, although its bytes may be the same.
        """
        for window in _windows(self._files(scope)):
            files = {document_id(self._collection, file.uri): file for file in window}
            known = self._ledger.intake.known(list(files))
            for key, listed in files.items():
                before = known.get(key)
                file = self._as_known(listed, before)
                if self.listed is not None:
                    self.listed.add(key, file.uri)
                refusal = self._refusal(file)
                if refusal is not None:
                    yield Planned("skipped", file.uri, file.size, f"{refusal.reason}: {refusal.detail}")
                elif before is None:
                    yield Planned("added", file.uri, max(0, file.size))
                elif file.size < 0:
                    yield Planned("unknown", file.uri, 0, "its server says when it is loaded whether it has changed")
                elif not self._same_file(file, before):
                    yield Planned("changed", file.uri, file.size)
                elif before.content_hash and _parsed_otherwise(self._given(file, before), before):
                    yield Planned("changed", file.uri, file.size, "other records, or other metadata of them")
                elif before.needs in self._programs:
                    yield Planned("changed", file.uri, file.size, f"{before.needs} can read it now")
                elif before.state in (DocumentState.QUARANTINED, DocumentState.SKIPPED):
                    yield Planned("skipped", file.uri, file.size, f"{before.reason} before, and unchanged since")
                elif self._finished(before) and self._given(file, before) != before.given:
                    yield Planned("changed", file.uri, 0, "other metadata")
                elif self._finished(before):
                    yield Planned("unchanged", file.uri, file.size)
                else:
                    yield Planned("changed", file.uri, file.size, "not finished, or made with other options")
        for omitted in self.counts.omitted:
            yield Planned("skipped", omitted.name, 0, omitted.why)

    def _files(self, scope: Scope) -> Iterator[SourceFile]:
        for file in scope.files:
            self.counts.discovered += 1
            yield file
        for found in self._found(scope):
            if scope.is_elsewhere(found.uri) or (isinstance(found, SourceFile) and self._sidecars.is_one(found)):
                continue
            if isinstance(found, Omitted):
                self._omit(found)
                if self.listed is not None:
                    # It exists but cannot be read now, which is no reason to delete its documents.
                    self.listed.add(document_id(self._collection, found.uri), found.uri)
                    self.listed.unlisted += [found.name] if found.folder else []
            else:
                self.counts.discovered += 1
                yield found

    def _omit(self, found: Omitted) -> None:
        self.counts.omitted_count += 1
        if len(self.counts.omitted) < OMITTED_KEPT:
            self.counts.omitted.append(found)

    def _found(self, scope: Scope) -> Iterator[SourceFile | Omitted]:
        yield from discover([root for root in scope.roots if not is_remote(root)], scope.patterns)
        for root in dict.fromkeys(str(root) for root in scope.roots if is_remote(root)):
            assert self._remotes is not None
            yield from self._remotes.listed(root, scope.patterns)

    def _window(self, run: int, window: Sequence[SourceFile]) -> None:
        self._began, began_ns = {}, time.time_ns()
        files = {document_id(self._collection, file.uri): file for file in window}
        known = self._ledger.intake.known(list(files))
        files = {key: self._as_known(file, known.get(key)) for key, file in files.items()}
        staged: dict[str, StagedFile] = {}
        refused: dict[str, Refused] = {}
        touched: dict[str, SourceFile] = {}
        given, described = self._metadata(files, known)
        adopted: list[str] = []
        to_copy: dict[str, SourceFile] = {}
        for key, file in files.items():
            before = known.get(key)
            if self.listed is not None:
                self.listed.add(key, file.uri)
            if before is not None and not self._checksum and self._same_file(file, before) and _has_copy(before):
                self._same_bytes(key, before, file, staged, adopted, described)
            else:
                to_copy[key] = file
        for key, copy in zip(to_copy, self._copies(to_copy, known), strict=True):
            before = known.get(key)
            if isinstance(copy, Omitted):
                self._omit(copy)
                if self.listed is not None:
                    self.listed.remove(key, copy.uri)
                del files[key]
            elif isinstance(copy, Refused):
                refused[key] = copy
                self.counts.refused += not copy.reason.skips
            elif before is not None and before.content_hash == copy.content_hash:
                touched[key] = copy.source
                self._same_bytes(key, before, copy.source, staged, adopted, described)
            else:
                staged[key] = copy
                self.counts.added += before is None
                self.counts.changed += before is not None
                self.counts.bytes += copy.source.size
        unchanged = [key for key in files if key in known and key not in staged and key not in refused]
        inside = self._ledger.intake.unfinished_members(unchanged)
        if self._programs:
            inside |= dict.fromkeys(self._ledger.intake.restart_unread(run, list(inside), self._programs))
        for key, reason in inside.items():
            # They belong to this run's result, as their document does.
            self.counts.refused += reason is not None and not Reason(reason).skips
            adopted.append(key)
        self._ledger.intake.record_staged(self._collection, run, staged, given)
        self._ledger.intake.refuse(self._collection, run, refused, given=given)
        self._ledger.intake.describe(self._collection, run, {key: described[key] for key in unchanged if key in described})
        self._ledger.intake.touch(touched)
        self._ledger.intake.adopt(run, adopted)
        hashes = {key: copy.content_hash for key, copy in staged.items()}
        hashes |= {key: known[key].content_hash for key in adopted if key in known and known[key].state in OPEN_STATES}
        if self._outcomes.on:
            for key, content_hash in hashes.items():
                self._outcomes.staged(self._version(run, key, files[key], content_hash), self._began.get(files[key].uri, began_ns))
        for key, item in refused.items():
            version = self._version(run, key, item.source, "")
            self._outcomes.refused(version, item.reason, item.detail, self._began.get(item.source.uri, began_ns))

    def _version(self, run: int, key: str, file: SourceFile, content_hash: str) -> Version:
        return Version(document=key, uri=file.uri, collection=self._collection, run=run, content_hash=content_hash, size=file.size)

    def _as_known(self, file: SourceFile, before: Known | None) -> SourceFile:
        """A page that need not be asked for is the version that is known."""
        if file.size >= 0 or before is None or self._checksum or not _has_copy(before):
            return file
        if self._remotes is None or not self._remotes.is_fresh(file, before.validators):
            return file
        return replace(file, size=before.size, mtime_ns=before.mtime_ns, validators=before.validators)

    def _copies(self, files: Mapping[str, SourceFile], known: Mapping[str, Known]) -> list[StagedFile | Refused | Omitted]:
        """Stage files in their order; objects and pages are fetched several at a time. Omitted: the file is gone."""
        before = [known.get(key) for key in files]
        with self._staging.batch() as batch:
            copy = partial(self._copy, batch)
            if not any(file.path is None and not is_repository(file.uri) for file in files.values()):
                return list(map(copy, files.values(), before))
            with ThreadPoolExecutor(FETCHES, "fetch") as pool:
                return list(pool.map(copy, files.values(), before))

    def _copy(self, batch: Batch, file: SourceFile, before: Known | None) -> StagedFile | Refused | Omitted:
        self._began[file.uri] = time.time_ns()
        refusal = self._refusal(file)
        if refusal is not None:
            return refusal
        try:
            kept = before if before is not None and _has_copy(before) else None
            if is_remote(file.uri):
                return self._put_remote(batch, file, kept)
            return batch.put(file, kept.content_hash if kept else "")
        except FileGone as error:
            return Omitted(file.uri, error.detail, file.uri)
        except DocumentError as error:
            return Refused(replace(file, size=max(0, file.size)), error.reason, error.detail)

    def _put_remote(self, batch: Batch, file: SourceFile, kept: Known | None) -> StagedFile:
        """Stage a file that has to be fetched first, unless its server says that it is the one kept. Raises DocumentError."""
        assert self._remotes is not None
        if kept and not self._checksum and file.size < 0:
            file = replace(file, mtime_ns=kept.mtime_ns, validators=kept.validators)
        temporary = self._staging.scratch()
        try:
            content_hash, copied = self._remotes.copy(file, temporary)
            if not content_hash:
                assert kept is not None
                return StagedFile(replace(copied, size=kept.size), kept.content_hash, "")
            return batch.take(copied, content_hash, temporary, kept.content_hash if kept else "")
        finally:
            temporary.unlink(missing_ok=True)

    def copy(self, file: SourceFile, target: Path) -> str:
        """Copy a file that was listed to `target`, for a plan; return its sha256. Raises DocumentError."""
        if not is_remote(file.uri):
            return copy_hashed(file, target)[0]
        assert self._remotes is not None
        return self._remotes.copy(file, target)[0]

    def _same_bytes(
        self,
        key: str,
        before: Known,
        now: SourceFile,
        staged: dict[str, StagedFile],
        adopted: list[str],
        described: Mapping[str, str],
    ) -> None:
        """Classify a document whose bytes the ledger knows already."""
        if key in described and _parsed_otherwise(described[key], before):
            staged[key] = self._again(before, now)
        elif self._finished(before) and key in described:
            self.counts.changed += 1
        elif self._finished(before):
            self.counts.unchanged += 1
        elif before.state in OPEN_STATES:
            adopted.append(key)
        elif before.needs in self._programs:
            staged[key] = self._again(before, now)
        elif before.state in (DocumentState.QUARANTINED, DocumentState.SKIPPED) and before.reason != Reason.STAGED_LOST:
            # Permanently refused: it belongs to this run's result, but only `retry` or a new version starts it again.
            self.counts.refused += before.state is DocumentState.QUARANTINED
            adopted.append(key)
        else:  # other options, another model, a lost copy, or deleted earlier: the work must be done again
            staged[key] = self._again(before, now)

    def _again(self, before: Known, now: SourceFile) -> StagedFile:
        """The staged copy of a document whose bytes are known, and which is parsed again."""
        self.counts.changed += 1
        self.counts.bytes += now.size
        return StagedFile(now, before.content_hash, "")

    def _metadata(self, files: Mapping[str, SourceFile], known: Mapping[str, Known]) -> tuple[dict[str, str], dict[str, str]]:
        """The metadata that this load gives to documents, and that of the documents which had other metadata before."""
        given = {key: self._given(file, known.get(key)) for key, file in files.items()}
        return given, {key: text for key, text in given.items() if key in known and text != known[key].given}

    def _given(self, file: SourceFile, before: Known | None) -> str:
        """The metadata of this load as the ledger keeps it; that of `--meta` in earlier loads stays, and how records are read."""
        found, wrong = self._sidecars.of(file)
        earlier = Given.read(before.given) if before is not None else Given()
        option = {name: value for name, value in {**earlier.option, **self._meta}.items() if value != Bare("")}
        records = self.records_of(file.uri, before)
        # Those of a file say nothing about its records, and would have it parsed again.
        times = file_times(file) if self._file_times and records is None else {}
        if file.facts:  # they stay while the version does: another commit with the same file changes nothing
            is_same = before is not None and before.content_hash != "" and self._same_file(file, before)
            found = dict(earlier.file) if is_same else dict(file.facts)
            times = (times and dict(earlier.times)) if is_same else times
        return str(Given(option, found, times, wrong, records))

    def records_of(self, uri: str, before: Known | None) -> RecordFields | None:
        """How the records of a file are documents; None: they are not."""
        records = self._records or (Given.read(before.given).records if before is not None else None)
        wanted = records is not None and records.wanted and may_hold_records(name_of(uri))
        return records if wanted else None

    def _finished(self, before: Known) -> bool:
        """Whether the store holds this version, made with the current options and model."""
        return (
            before.state is DocumentState.INDEXED
            and before.indexed_hash == before.content_hash
            and before.indexed_parse in fingerprints(Given.read(before.given).parse_fingerprint(self._parse))
            and before.indexed_embed == self._embed
        )

    @staticmethod
    def _same_file(file: SourceFile, before: Known) -> bool:
        return (file.size, file.mtime_ns) == (before.size, before.mtime_ns)

    def _refusal(self, file: SourceFile) -> Refused | None:
        """Refuse files that no parser accepts before they are copied."""
        if file.size == 0:
            return Refused(file, Reason.EMPTY_FILE, "zero bytes")
        if file.size > self._max_file_bytes:
            return Refused(file, Reason.TOO_LARGE, f"{file.size} bytes, KB_MAX_FILE_BYTES is {self._max_file_bytes}")
        return None


def _has_copy(before: Known) -> bool:
    """Whether a document's bytes are in staging and stay there: those of a deleted one may be removed at any moment."""
    return before.content_hash != "" and before.reason != Reason.STAGED_LOST and before.state is not DocumentState.DELETED


def _parsed_otherwise(given: str, before: Known) -> bool:
    """Whether a document must be parsed again for what a load gives it: its records are other ones, or have other metadata."""
    now, then = Given.read(given), Given.read(before.given)
    return now.records != then.records or (now.records is not None and given != before.given)


def _windows(files: Iterable[SourceFile], most: int = WINDOW_FILES) -> Iterator[list[SourceFile]]:
    stream, size = iter(files), FIRST_FILES
    while window := list(islice(stream, size)):
        yield window
        size = min(most, 2 * size)

"""The guard: extracts documents in a child process that may crash, hang or run out of memory without harming the caller."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import InstallationError, NoSpace, TransientError
from pipeline.files.errors import translating
from pipeline.model.tokens import TokenCounter
from pipeline.parse import PARSED_TYPES
from pipeline.parse.gate import Limits
from pipeline.parse.ocr.options import OcrOptions
from pipeline.sandbox.attempt import Attempt
from pipeline.sandbox.environment import environment
from pipeline.sandbox.extract import Extracted, ExtractJob, SoFar, parse_fingerprint
from pipeline.settings import Settings
from pipeline.types import Reason

log = logging.getLogger(__name__)

#: Called with the progress of a job's document.
OnProgress = Callable[[ExtractJob, SoFar], None]

#: Seconds between two calls of `on_tick` while a document is being parsed.
TICK_S = 0.5

#: Seconds in which events gather before they are read: to be woken for each small document took longer than to read its events.
GATHER_S = 0.005

#: Additional wall-clock seconds per MB of a document.
SECONDS_PER_MB = 2.0

#: Maximum crashes of a document before it fails; for the second attempt it is alone in a fresh child.
MAX_CRASHES = 2

#: Seconds that the server may take to start and to import the modules for a type of document.
SERVER_START_S = 120.0

#: Maximum number of times in a row that the server may end before it begins a document; then the documents are not at fault.
MAX_FALSE_STARTS = 3

#: Seconds that the server may take to end once its stdin is closed.
SERVER_END_S = 5.0

#: A crash with at least this share of the allowed memory in use counts as out of memory.
MEMORY_SHARE = 0.7

#: Libraries print these words before they abort for lack of memory, long before MEMORY_SHARE when they request much at once.
_MEMORY_WORDS = ("out of memory", "bad_alloc", "annot allocate memory", "memory allocation", "MemoryError")


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How documents are extracted, and the limits for one document."""

    tokenizer: str  #: folder that holds tokenizer.json
    chunks: ChunkOptions
    limits: Limits
    memory_bytes: int  #: memory that the child and its descendants may use in addition to the parent's
    timeout_s: float  #: wall clock per document, plus SECONDS_PER_MB
    extract: str = "pipeline.sandbox.extract:extract"  #: the extracting function, as module:name

    @classmethod
    def from_settings(cls, settings: Settings, tokenizer: Path, model_max_tokens: int | None = None) -> GuardOptions:
        """Options from the settings; chunks never exceed the model's limit."""
        tokens = min(settings.chunk_tokens, model_max_tokens or settings.chunk_tokens)
        return cls(
            tokenizer=str(tokenizer),
            chunks=ChunkOptions(tokens, settings.chunk_overlap, tokens * 16),
            limits=Limits(
                settings.max_file_bytes, settings.zip_max_part_bytes, settings.zip_max_ratio, OcrOptions.from_settings(settings)
            ),
            memory_bytes=settings.parse_memory_bytes,
            timeout_s=settings.parse_timeout_s,
        )

    def fingerprint(self) -> str:
        """The parse fingerprint of documents extracted with these options that have pages without text.

        That of others is its part before the last hyphen: see `pipeline.metadata.fingerprints`.
        """
        usual = parse_fingerprint(TokenCounter.from_folder(Path(self.tokenizer)), self.chunks)
        return f"{usual}-{self.limits.ocr.fingerprint()}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job: `extracted`, or the reason for its failure."""

    job: ExtractJob
    extracted: Extracted | None
    reason: Reason | None = None
    detail: str = ""
    seconds: float = 0.0  #: time that the parser took, in the last attempt; exact to GATHER_S


class ParseGuard:
    """Feeds jobs to a server process that forks a child for each batch; a context manager.

    The server imports the modules for a type of document once, when the first such document has passed the gate. A child
    therefore costs a fork and not an import, and imports count toward no limit of a document. The server ends with this
    process, however that ends, together with its child and all descendants of the child.
    """

    def __init__(self, options: GuardOptions) -> None:
        self._options = options
        self._server: subprocess.Popen[bytes] | None = None
        self._lines: deque[bytes] = deque()  #: events that have been read
        self._buffer = b""  #: the beginning of the next one
        self._types: set[str] = set()

    def __enter__(self) -> ParseGuard:
        return self

    def prepare(self) -> None:
        """Start the server now, so that the first documents do not wait for its imports."""
        if self._server is None or self._server.poll() is not None:
            self.close()
            self._server, self._buffer = self._start(), b""
            self._lines.clear()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server, its child and all descendants of the child."""
        if self._server is None:
            return
        server, self._server = self._server, None
        assert server.stdin is not None
        assert server.stdout is not None
        with contextlib.suppress(OSError):
            server.stdin.close()  # makes the server kill its child
        try:
            server.wait(SERVER_END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()

    def run(
        self, jobs: Sequence[ExtractJob], on_tick: Callable[[], None], on_progress: OnProgress | None = None
    ) -> Iterator[Outcome]:
        """Extract documents; yields an outcome for each, in no particular order.

        `on_tick` is called at least every TICK_S while this method waits; an exception from it ends the run and the child.
        `on_progress` is called with the progress of a slow document, as its child reports it; a retried document begins at 0.
        A document whose child dies or runs out of memory is retried once, alone; the others continue in a fresh child. Raises
        NoSpace; TransientError where no parser can be started at all; and, after all other outcomes, InstallationError where
        some documents need a module that cannot be imported. These documents have no outcome.
        """
        crashes: Counter[str] = Counter()
        false_starts = 0
        broken: InstallationError | None = None
        waiting = deque([list(jobs)] if jobs else [])
        while waiting:
            batch = waiting.popleft()
            attempt = yield from self._attempt(batch, on_tick, on_progress)
            rest = [job for number, job in enumerate(batch) if number not in attempt.done and number != attempt.current]
            if attempt.current is not None:
                culprit = batch[attempt.current]
                crashes[culprit.document_id] += 1
                reason, detail = self._verdict(attempt)
                if reason is Reason.TIMEOUT or crashes[culprit.document_id] >= MAX_CRASHES:
                    yield Outcome(
                        job=culprit, extracted=None, reason=reason, detail=detail, seconds=time.monotonic() - attempt.since
                    )
                else:
                    waiting.append([culprit])
            broken = broken or attempt.broken
            false_starts = 0 if attempt.begun else false_starts + 1
            if false_starts >= MAX_FALSE_STARTS:  # a broken installation, or a host without memory for a fork
                raise TransientError("the parser's process does not start; see the preceding log lines for the cause")
            if rest:
                waiting.appendleft(rest)
        if broken is not None:
            self.close()  # a new server imports again once the installation is repaired
            raise broken

    def _attempt(
        self, jobs: list[ExtractJob], on_tick: Callable[[], None], on_progress: OnProgress | None
    ) -> Generator[Outcome, None, Attempt]:
        folder, outputs = _private_folder(None), _private_folder(Path(jobs[0].output).parent)
        attempt = Attempt(jobs, folder, outputs, set())
        # The child works in its own folder, where relative paths would point elsewhere.
        absolute = os.path.abspath(outputs)
        private = [
            job.fields() | {"path": os.path.abspath(job.path), "output": f"{absolute}/{number}"} for number, job in enumerate(jobs)
        ]
        request = {"jobs": private, "folder": str(folder), "outputs": absolute}
        try:
            self._send(request | {"preload": sorted(self._types)})
            attempt.since = time.monotonic()
            for event in self._events(attempt, on_tick):
                if "so_far" in event:
                    so_far = SoFar(**event["so_far"])
                    attempt.more_s = min(attempt.more_s + so_far.more_s, self._options.limits.ocr.document_s)
                    if on_progress is not None and not so_far.more_s:
                        on_progress(jobs[event["at"]], so_far)
                outcome = self._event(attempt, event)
                if outcome is not None:
                    yield outcome
            if self._server is None:  # it died, and nothing else has killed the descendants of its child
                self._kill(attempt)
            attempt.said = _last_line(folder / "stderr")
        except BaseException:
            # Also GeneratorExit: a caller that stops iterating must not leave a child running.
            self._kill(attempt)
            self.close()
            raise
        finally:
            attempt.close()
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(outputs, ignore_errors=True)
        return attempt

    def _event(self, attempt: Attempt, event: dict[str, Any]) -> Outcome | None:
        if "child" in event:
            attempt.child = event["child"]
        elif "start" in event:
            attempt.current, attempt.since, attempt.begun = event["start"], time.monotonic(), True
            attempt.forget()
        elif "loss" in event or "member" in event or "property" in event:
            attempt.note(event)
        elif "need" in event and event["need"] in PARSED_TYPES - self._types:
            # The server imports its modules before the next fork. This document is sent again, and its time has not begun.
            self._types.add(event["need"])
            attempt.current, attempt.since = None, time.monotonic()
        elif "no_space" in event:
            raise NoSpace(f"no room to parse: {event['no_space']}; free some disk space and run the command again")
        elif "end" in event:
            job = attempt.jobs[event["end"]]
            if event.get("reason") == Reason.OUT_OF_MEMORY and len(attempt.jobs) > 1:
                # Earlier documents may have left too little memory. The child has ended itself, and this document is sent again.
                attempt.cause = Reason.OUT_OF_MEMORY
                return None
            attempt.done.add(event["end"])
            took, attempt.current, attempt.since = time.monotonic() - attempt.since, None, time.monotonic()
            if "extracted" in event:
                extracted = attempt.taken(event["extracted"], event["end"], job)
                return Outcome(job, extracted, seconds=took)
            if "broken" in event:
                attempt.broken = InstallationError(event["broken"])
                return None
            return Outcome(job=job, extracted=None, reason=Reason(event["reason"]), detail=event["detail"], seconds=took)
        elif "broken" in event:
            raise InstallationError(event["broken"])
        elif "exit" in event and attempt.cause is None and attempt.current is not None:
            if event["exit"] == -signal.SIGXCPU:
                attempt.cause = Reason.TIMEOUT
            elif event["memory_bytes"] >= self._options.memory_bytes * MEMORY_SHARE:
                attempt.cause = Reason.OUT_OF_MEMORY
            else:
                attempt.cause = Reason.CRASHED
        return None

    def _events(self, attempt: Attempt, on_tick: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Events of the server and its child, until the child has ended."""
        ticked = 0.0
        while True:
            if time.monotonic() - ticked >= TICK_S:
                ticked = time.monotonic()
                on_tick()
            event = self._receive(TICK_S)
            if event is None:
                # Only now: while the caller handled the last outcome, the end of this document may have been reported.
                self._watch(attempt)
                continue
            yield event
            if "exit" in event:
                return

    def _watch(self, attempt: Attempt) -> None:
        """Kill a child that takes too long."""
        took = time.monotonic() - attempt.since
        if attempt.current is None:
            if took > SERVER_START_S:
                self._kill(attempt)
                self.close()
        elif attempt.cause is None and took > self.allowed_s(attempt.jobs[attempt.current]) + attempt.more_s:
            attempt.cause = Reason.TIMEOUT
            self._kill(attempt)

    def allowed_s(self, job: ExtractJob) -> float:
        """Wall-clock seconds that a document may take."""
        return self._options.timeout_s + SECONDS_PER_MB * job.size() / 1e6

    def _verdict(self, attempt: Attempt) -> tuple[Reason, str]:
        assert attempt.current is not None
        reason = attempt.cause or Reason.CRASHED
        if reason is Reason.CRASHED and any(words in attempt.said for words in _MEMORY_WORDS):
            reason = Reason.OUT_OF_MEMORY
        if reason is Reason.TIMEOUT:
            return reason, f"the parser took longer than {self.allowed_s(attempt.jobs[attempt.current]) + attempt.more_s:.0f} s"
        if reason is Reason.OUT_OF_MEMORY:
            return reason, f"parsing needed more than {self._options.memory_bytes >> 20} MB of memory"
        return reason, f"the parser's process died{': ' + attempt.said if attempt.said else ''}"

    # --- the server

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: the working directory may be the folder being loaded, and a json.py in it must not be imported.
            [sys.executable, "-P", "-m", "pipeline.sandbox.server", json.dumps(asdict(self._options))], env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def _send(self, request: dict[str, Any]) -> None:
        line = json.dumps(request).encode() + b"\n"
        for _ in range(2):
            self.prepare()
            assert self._server is not None
            assert self._server.stdin is not None
            try:
                self._server.stdin.write(line)
                self._server.stdin.flush()
                return
            except BrokenPipeError:  # it has died since the last batch
                self.close()

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event, or None when none arrives in time; a dead server yields an exit event."""
        while not self._lines:
            if self._server is None:
                return {"exit": -signal.SIGKILL, "memory_bytes": 0}
            assert self._server.stdout is not None
            time.sleep(GATHER_S)
            readable, _, _ = select.select([self._server.stdout], [], [], timeout_s)
            if not readable:
                return None
            data = os.read(self._server.stdout.fileno(), 1 << 16)
            if not data:
                self.close()
                return {"exit": -signal.SIGKILL, "memory_bytes": 0}
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self._lines.extend(lines)
        try:
            event = json.loads(self._lines.popleft())
        except ValueError:  # cut off when the child was killed
            return {}
        return event if isinstance(event, dict) else {}

    @staticmethod
    def _kill(attempt: Attempt) -> None:
        if attempt.child:
            try:
                os.killpg(attempt.child, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


def _private_folder(parent: Path | None) -> Path:
    """A new folder that only this user can access; None: in the system's temporary folder. Raises NoSpace, ConfigError."""
    with translating(parent or "the system's temporary folder"):
        return Path(tempfile.mkdtemp(prefix="kb-parse-", dir=parent))


def _last_line(path: Path) -> str:
    try:
        lines = path.read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""

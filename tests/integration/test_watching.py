"""What people see while it works, and what `status` and `logs` say when it does not: with real processes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from pipeline.ledger import Ledger
from pipeline.settings import load_settings
from pipeline.steps.load import LoadCounts
from tests.services import Cli, Server, embed_server, wait_until
from tests.terminal import in_terminal
from workers.cli.display import Utilisation
from workers.cli.display import picture as live_picture
from workers.monitoring.snapshot import Lookout

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Where Debian's python3-doc puts its pages.
PYTHON_DOC = Path("/usr/share/doc/python3.11/html")

#: Enough documents that some of them wait while others are worked on.
COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "notes"
    place.mkdir()
    for number in range(COUNT):
        (place / f"note {number:02d}.txt").write_text(f"note {number}\n\n" + f"sensor {number} is well. " * 40, "utf-8")
    return place


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Server]:
    """A model server that takes its time, so that there is something to see."""
    server = embed_server(tmp_path / "embed", delay_s=0.2)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cli(tmp_path: Path, endpoint: Server, redis: Server, qdrant: Server) -> Cli:
    return Cli(
        tmp_path / "data", KB_EMBED_URL=f"http://127.0.0.1:{endpoint.port}", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
        KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}", KB_EMBED_MODEL="served",
        KB_MAX_IN_FLIGHT="8", KB_BATCH_DOCUMENTS="4", KB_PARSE_WORKERS="1",
        KB_LEASE_S="6", KB_REQUEUE_S="3",
    )  # fmt: skip


@contextlib.contextmanager
def running(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = cli.start(*arguments)
    with process:  # its pipes are closed
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def verdict(cli: Cli) -> str:
    return str(cli.answer("status")["verdict"])


def test_status_tells_starved_paused_and_stalled_apart_and_logs_tell_a_document_s_life(
    cli: Cli, folder: Path, endpoint: Server
) -> None:
    assert cli.run("status").stdout.startswith("stuck: no, idle: ")
    cli.run("load", str(folder), "--no-wait")
    first = cli.run("status").stdout.splitlines()[0]
    assert first.startswith("stuck: YES, starved: 40 documents wait for the parse stage, and no worker serves it")
    ledger = Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}")
    with running(cli, "up"):
        wait_until(lambda: ledger.report.progress().states.get("indexed", 0) > 0, "the first are searchable", 60, 0.02)
        endpoint.send(signal.SIGSTOP)  # nothing passes while `status` starts, which may take longer than all the documents
        wait_until(lambda: verdict(cli) == "paused", "paused by backpressure")
        endpoint.stop(signal.SIGKILL)
        wait_until(lambda: verdict(cli) == "stalled", "stalled", 90, 0.5)
        found = cli.answer("status")
        assert found["stuck"]
        assert "embedding endpoint" in found["why"]
        endpoint.start()
        wait_until(lambda: verdict(cli) == "idle", "all is done", 120, 0.5)
    assert cli.answer("status")["documents"] == {"indexed": COUNT}
    (life,) = cli.answer("logs", "--document", str(folder / "note 07.txt"))
    states = [event["state"] for event in life["events"]]
    assert (states[0], states[-1], life["state"]) == ("pending", "indexed", "indexed")
    assert [state for state in states if state in ("parsing", "embedding")][:2] == ["parsing", "embedding"]
    assert all(event["owner"] for event in life["events"][1:])
    told = cli.run("logs", "--document", "note%2007.txt").stdout
    assert re.search(r"indexed +\S.* 1 chunk, 1 of them embedded, \d+ tokens?; parser \d+\.\d\d s, embedding \d+\.\d\d s", told)
    # What the workers held when the model server went away went back, and the reason is there to be read.
    ids = [document.id for window in ledger.report.expected("documents") for document in window]
    back = [key for key in ids if any("does not answer" in event.detail for event in ledger.life.of(key))]
    ledger.close()
    assert back
    assert "does not answer" in cli.run("logs", "--document", back[0]).stdout
    assert "no document in the ledger matches" in cli.run("logs", "--document", "nothing.txt", status=1).stderr


def test_a_load_in_a_terminal_shows_bars_speed_workers_and_the_time_that_is_left(cli: Cli, folder: Path) -> None:
    with running(cli, "up"):
        wait_until(lambda: any(worker["device"] for worker in cli.answer("status")["workers"]), "a model is there", 60, 0.5)
        shown = shown_by(cli, "load", str(folder))
    stages = (r"parse +\S*━", r"embed +\S*━", r"\d+ of 40 documents, [1-9]\d* chunks")
    speed = (r"[1-9]\d* chunks/s", r"\d s left", "messages in the queues: parse", "paused: by backpressure")
    for words in ("40 files, 0 unchanged", *stages, *speed, "run 1: 40 files"):
        assert re.search(words, shown), (words, shown[-3000:])


def test_watching_from_elsewhere_shows_the_same(cli: Cli, folder: Path) -> None:
    cli.run("load", str(folder), "--no-wait")
    watcher = cli.start("status", "--watch")
    assert watcher.stderr is not None
    with watcher:
        lines = [watcher.stderr.readline(), watcher.stderr.readline()]
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=30)
    assert lines[0].startswith("starved: 40 documents wait")
    assert lines[1].startswith("0 of 40 documents done · 0 quarantined · 0 chunks parsed so far, 0 written · 0 chunks/s")


def shown_by(cli: Cli, *arguments: str) -> str:
    """What a command writes in a terminal of 120 columns, without the codes that move the cursor."""
    written, status = in_terminal([*cli.PROGRAM, *arguments], environment=cli.environment, columns=120)
    assert status == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_the_live_picture_of_a_load_of_real_pages(
    tmp_path: Path, browser: Chrome, picture: Callable[..., Path], unavailable: Callable[[str], NoReturn]
) -> None:
    """With the real model, without any server: what `load` draws, seen from another process, and drawn for the guide."""
    pages = [page for page in sorted((PYTHON_DOC / "library").glob("[a-h]*.html")) if page.stat().st_size < 60_000][:60]
    if not pages:
        unavailable("Debian's python3-doc is not installed")
    folder = tmp_path / "pages"
    folder.mkdir()
    for page in pages:
        (folder / page.name).write_bytes(page.read_bytes())
    (folder / "a scan.pdf").write_bytes(b"%PDF-1.7\nthe rest is missing")
    cli = Cli(tmp_path / "data", KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_PARSE_WORKERS="1")
    load = cli.start("load", str(folder))
    ledger_file = cli.data_dir / "kb.db"
    wait_until(lambda: ledger_file.exists() and ledger_file.stat().st_size > 0, "the ledger is there", 60)
    ledger, settings, busy = Ledger.open(f"sqlite:///{ledger_file}"), load_settings(data_dir=cli.data_dir), Utilisation()
    wait_until(lambda: ledger.runs.get(1) is not None, "the run has begun", 60)
    lookout, moments = Lookout(settings, ledger, run=1), []
    shares: list[float | None] = []
    while load.poll() is None:
        moments.append(lookout.look(LoadCounts(discovered=len(pages) + 1), own_workers=True))
        for worker in moments[-1].workers:
            busy.add(worker)
        shares = [busy.of(worker) for worker in moments[-1].workers if worker.role == "embed" and worker.device]
        if moments[-1].left_s is not None and all(shares) and shares:
            break
        time.sleep(lookout.pause_s)
    screen = Console(record=True, file=StringIO(), width=112, force_terminal=True, color_system="truecolor")
    screen.print(live_picture(moments[-1], busy))
    text = screen.export_text(clear=False)
    out, err = load.communicate(timeout=240)
    ledger.close()
    assert load.returncode == 3, (out, err)
    # It embeds nearly all the time; writing and reading share the processor with other tests.
    assert shares, text
    assert min(share or 0 for share in shares) > 0.25, text
    for words in ("parse", r"embed-cpu@\S+ +cpu", r"\d+%", r"[1-9]\d* chunks/s, .* left", "quarantined a scan.pdf: corrupt"):
        assert re.search(words, text), text
    page = tmp_path / "screen.html"
    page.write_text(screen.export_html(inline_styles=True, theme=DIMMED_MONOKAI), "utf-8")
    browser.get(page.as_uri())
    picture(browser.find_element("css selector", "pre"), "live-display")

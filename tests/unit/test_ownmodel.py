"""The process that an embed worker starts for its model."""

from __future__ import annotations

import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest

from pipeline.files.lock import FileLock
from pipeline.settings import Settings
from pipeline.telemetry.spans import Tracing
from pipeline.types import Stage
from tests.embed_server import MODEL
from tests.services import embed_server, wait_until
from workers.process import worker
from workers.process.modelserver import RemoteEmbedder, _send
from workers.process.ownmodel import OwnModel, start
from workers.process.runtime import EmbedRuntime, Runtime

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere an embed worker has the model in its own process"
)


def models() -> list[psutil.Process]:
    """The models' processes that this process has started."""
    return [child for child in psutil.Process().children() if "workers.process.modelserver" in child.cmdline()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data").prepare()


def fails(*_: object) -> None:
    raise RuntimeError("busy")


def test_a_device_stays_locked_until_its_model_has_ended(tmp_path: Path) -> None:
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.take()
    model = OwnModel("embed-cuda0@host", [lock.fileno()])
    lock.leave()
    assert not other.take()
    model.close()
    assert other.take()
    other.release()


def test_it_ends_without_its_worker_s_end_of_the_socket_and_not_by_sigterm() -> None:
    model = OwnModel("embed-cpu@host")
    (process,) = models()
    assert process.cmdline()[-2:] == ["--name", "model-cpu"]

    def ignores_sigterm() -> bool:
        (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
        return bool(int(line.split()[1], 16) >> signal.SIGTERM - 1 & 1)

    wait_until(ignores_sigterm, "the process has begun", 60, 0.05)
    process.terminate()
    assert psutil.wait_procs([process], timeout=0.5)[0] == []
    model._door.close()
    assert psutil.wait_procs([process], timeout=60)[0] == [process]
    model.close()


def test_a_worker_without_one_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    files = len(os.listdir("/proc/self/fd"))
    with caplog.at_level(logging.WARNING):
        assert start("embed-cpu@host") is None
    assert "cannot start a process for the model" in caplog.text
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_start_that_fails_leaves_no_process_behind(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(EmbedRuntime, "_model", fails)
        with pytest.raises(RuntimeError, match="busy"):
            worker._made(Stage.EMBED, settings, "embed-cpu@host", None, ())
    assert models() == []

    monkeypatch.setattr(EmbedRuntime, "_load", lambda _: None)
    monkeypatch.setattr(Runtime, "bury_siblings", fails)
    with pytest.raises(RuntimeError, match="busy"):
        worker._made(Stage.EMBED, settings, "embed-cpu@host", None, ())
    assert models() == []


def test_what_fails_to_close_does_not_keep_the_rest_open(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(EmbedRuntime, "_load", lambda _: None)
    monkeypatch.setattr(Tracing, "close", lambda _: closed.append("tracing"))
    runtime = EmbedRuntime(settings, "embed-cpu@host")
    assert len(models()) == 1
    runtime._ends.callback(fails)
    with pytest.raises(RuntimeError, match="busy"):
        runtime.close()
    assert (models(), closed) == ([], ["tracing"])
    runtime.ledger.close()


def test_a_model_that_hangs_is_not_asked_for_its_memory(tmp_path: Path) -> None:
    server = embed_server(tmp_path / "embed")
    server.start()
    model = OwnModel("embed-cpu@host")
    (process,) = models()
    try:
        settings = Settings(data_dir=tmp_path, embed_url=f"http://127.0.0.1:{server.port}", embed_model=MODEL)
        embedder = RemoteEmbedder(model.door, settings, "cpu", lambda: None)
        loaded = embedder.memory_bytes()
        assert embedder.embed(["bees"]).shape[0] == 1
        process.suspend()
        with ThreadPoolExecutor(1) as pool:
            try:
                held = pool.submit(embedder.memory_bytes).result(timeout=10)
            finally:
                process.resume()
        assert [loaded, held] == pytest.approx([process.memory_info().rss] * 2, rel=0.5)
    finally:
        model.close()
        server.stop()


def test_a_reply_that_cannot_be_sent_is_an_error_and_not_the_end_of_the_model() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        _send(theirs, (lambda: 0, None))
        answer, error = ours.recv()
        assert answer is None
        assert "lambda" in str(error)
        _send(theirs, (None, ValueError("bad text", lambda: 0)))
        answer, error = ours.recv()
        assert answer is None
        assert str(error).startswith("ValueError: ('bad text'")

"""The processes that a load starts ahead: the server that forks its workers, and the model's; with each of them killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.embed_server import MODEL
from tests.services import Cli, embed_server, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere workers are new interpreters"),
]

FORKS, MODELS, WORKER = "workers.process.forkserver", "workers.process.modelserver", "workers.process.worker"

DOCUMENTS = 10

#: Asks the model's process, and interrupts it between a question and its answer.
ASK = """
import signal, sys
from pathlib import Path
from typing import Any
from pipeline.settings import load_settings
from workers.process.ahead import Ahead
from workers.process.modelserver import ModelGone, RemoteEmbedder

def stop(number, frame):
    raise KeyboardInterrupt

settings = load_settings()
with Ahead() as ahead:
    ahead.load_model(settings)
    embedder = RemoteEmbedder(ahead.model.socket.fileno(), settings, "cpu", sys.exit)
    assert "torch" not in sys.modules
    first = embedder.embed(["Bees visit flowers."])
    assert embedder.calls >= len(embedder.fills) >= 1
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        embedder.embed([f"Bees visit {number} flowers " * 20 for number in range(2000)])
    except KeyboardInterrupt:
        print("interrupted")
    again = embedder.embed(["Bees visit flowers."])
    assert again.shape == first.shape == (1, embedder.info.dimension)
    assert float(again[0] @ first[0]) > 0.999
    other = RemoteEmbedder(ahead.model.socket.fileno(), settings, "cpu", sys.exit)
    assert other.calls == embedder.calls > 1, "the same model was loaded twice"
try:
    RemoteEmbedder(-1, settings, "cpu", sys.exit)
except ModelGone as gone:
    print("gone")
assert ahead.model is None and ahead.forks is None
"""


class Asking(Cli):
    """Not a command, but with its environment."""

    PROGRAM = (sys.executable, "-c", ASK)


#: Tries to start processes ahead beside a thread.
BESIDE_A_THREAD = """
import threading
from pipeline.settings import load_settings
from workers.process.ahead import Ahead

end = threading.Event()
threading.Thread(target=end.wait).start()
with Ahead() as ahead:
    ahead.load_model(load_settings())
    ahead.fork_workers(load_settings())
    print(ahead.model, ahead.forks)
end.set()
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Embedded mode with a model server that leaves time to kill something; a lease outlasts the test."""
    server = embed_server(tmp_path / "embed", delay_s=1.5)
    server.start()
    yield Cli(
        tmp_path / "data", KB_EMBED_URL=f"http://127.0.0.1:{server.port}", KB_EMBED_MODEL=MODEL, KB_BATCH_DOCUMENTS="1",
        KB_LEASE_S="600", KB_PARSE_WORKERS="1",
    )  # fmt: skip
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "many"
    made.mkdir()
    for number in range(DOCUMENTS):
        (made / f"{number}.txt").write_text(f"Document {number} is about subject {number}.\n")
    return made


@contextlib.contextmanager
def loading(cli: Cli, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A load that is under way; all of its processes have ended at the end."""
    command = cli.start("load", str(folder), "--json")
    seen: set[psutil.Process] = set()
    try:
        yield command
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen.update(psutil.Process(command.pid).children(recursive=True))
        command.kill()
        command.communicate()
        wait_until(lambda: not any(map(alive, seen)), "no process is left", 20)


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def below(command: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Processes of a command with a word in their command line, the ones that came first first."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(command.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if word in process.cmdline() and alive(process):
                    found.append(process)
    return found


def asked(cli: Cli, question: str) -> list[Any]:
    """The ledger's answer; nothing while there is none."""
    ledger = cli.data_dir / "kb.db"
    if ledger.exists():
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(ledger)) as connection:
            return connection.execute(question).fetchall()
    return []


def states(cli: Cli) -> dict[object, object]:
    return dict(asked(cli, "SELECT state, count(*) FROM documents GROUP BY state"))


def is_at_work(cli: Cli) -> bool:
    return "embedding" in states(cli)


def charged(cli: Cli) -> object:
    """Attempts that were counted against documents whose worker had died."""
    return asked(cli, "SELECT sum(starts) FROM documents")[0][0]


def end(command: subprocess.Popen[str], cli: Cli) -> None:
    """See that a load ends with everything indexed, and the store whole."""
    out, err = command.communicate(timeout=240)
    assert command.returncode == 0, err
    assert states(cli) == {"indexed": DOCUMENTS}, out
    assert cli.whole() == DOCUMENTS


def test_workers_are_forked_and_new_interpreters_once_the_server_is_killed(cli: Cli, folder: Path) -> None:
    with loading(cli, folder) as command:
        wait_until(lambda: is_at_work(cli), "documents are being embedded", 120, 0.05)
        (server,) = below(command, FORKS)
        assert server.ppid() == command.pid
        assert server.num_threads() == 1
        assert not below(command, MODELS)  # another host has the model
        forked = below(command, WORKER)
        assert {process.cmdline()[0] for process in forked} == {"kb-ingest"}
        assert {process.ppid() for process in forked} >= {server.pid}
        assert command.pid not in {process.ppid() for process in forked}

        server.kill()
        wait_until(lambda: any(one.ppid() == command.pid for one in below(command, WORKER)), "workers are started anew", 60, 0.05)
        wait_until(lambda: not any(map(alive, forked)), "the workers of the killed server have ended", 20, 0.05)
        end(command, cli)
        assert charged(cli) == 0


def test_a_killed_worker_is_forked_again(cli: Cli, folder: Path) -> None:
    with loading(cli, folder) as command:
        wait_until(lambda: is_at_work(cli), "documents are being embedded", 120, 0.05)
        (server,) = below(command, FORKS)
        killed = {process for process in below(command, WORKER) if process.ppid() == server.pid}
        assert len(killed) == 2
        for process in killed:
            process.kill()
        wait_until(lambda: len({one for one in below(command, WORKER) if one.ppid() == server.pid} - killed) == 2, "both", 60, 0.05)
        end(command, cli)


def test_ctrl_c_before_the_workers_are_forked_leaves_nothing(cli: Cli, folder: Path) -> None:
    with loading(cli, folder) as command:
        wait_until(lambda: bool(below(command, FORKS)), "the fork server", 120, 0.005)
        (server,) = below(command, FORKS)
        server.suspend()  # it forks nothing now
        wait_until(lambda: bool(states(cli)), "documents are recorded", 120, 0.05)
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
        assert command.returncode == 130, err
        assert not alive(server)
    cli.run("load", str(folder))
    assert states(cli) == {"indexed": DOCUMENTS}


@pytest.mark.parametrize("paused", ["", FORKS])
def test_a_killed_load_leaves_no_process(cli: Cli, folder: Path, paused: str) -> None:
    with loading(cli, folder) as command:
        wait_until(lambda: is_at_work(cli), "documents are being embedded", 120, 0.05)
        family = psutil.Process(command.pid).children(recursive=True)
        for process in below(command, paused) if paused else ():
            process.suspend()
        command.kill()
        command.communicate()
        wait_until(lambda: not any(map(alive, family)), "all processes have ended", 20)
    cli.run("load", str(folder))
    assert states(cli) == {"indexed": DOCUMENTS}
    assert cli.whole() == DOCUMENTS


def test_documents_of_killed_workers_are_free_at_once_though_their_supervisor_never_saw_them(cli: Cli, folder: Path) -> None:
    with loading(cli, folder) as command:
        wait_until(lambda: bool(below(command, FORKS)), "the fork server", 120, 0.005)
        (server,) = below(command, FORKS)
        server.suspend()  # it forks once it is resumed, while the command is suspended
        wait_until(lambda: bool(states(cli)), "documents are recorded", 120, 0.05)
        wait_until(lambda: len(asked(cli, "SELECT name FROM workers")) == 2, "workers are asked for", 20, 0.05)
        time.sleep(1)  # for the requests, which follow
        command.send_signal(signal.SIGSTOP)
        server.resume()
        wait_until(lambda: is_at_work(cli), "documents are being embedded", 120, 0.05)
        for process in below(command, WORKER):
            process.kill()
        command.kill()
        command.communicate()
    cli.run("load", str(folder), timeout_s=120)
    assert states(cli) == {"indexed": DOCUMENTS}


def test_only_the_model_s_process_has_torch_and_a_load_goes_on_without_it(tmp_path: Path, folder: Path) -> None:
    cli = Cli(tmp_path / "data", KB_INGEST_DEVICE="cpu", KB_BATCH_DOCUMENTS="1", KB_LEASE_S="600")

    def has_torch(process: psutil.Process) -> bool:
        return "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text()

    with loading(cli, folder) as command:
        wait_until(lambda: is_at_work(cli) or "indexed" in states(cli), "documents are being embedded", 240, 0.02)
        (model,) = below(command, MODELS)
        assert model.ppid() == command.pid
        assert has_torch(model)
        others = [psutil.Process(command.pid), *below(command, FORKS), *below(command, WORKER)]
        assert len(others) > 3
        assert not any(map(has_torch, others))

        model.kill()
        end(command, cli)


def test_the_model_s_process_answers_the_question_that_was_asked(tmp_path: Path) -> None:
    assert Asking(tmp_path).run().stdout.split() == ["interrupted", "gone"]


def test_nothing_is_forked_beside_a_thread(tmp_path: Path) -> None:
    environment = {**os.environ, "KB_DATA_DIR": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", BESIDE_A_THREAD], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["None", "None"]

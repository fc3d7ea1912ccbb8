"""Which workers a host runs and what they are called, on machines with other devices than this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.types import Stage
from workers.health import file_of
from workers.process.spec import clocks, plan, role_of

HOST, PID = socket.gethostname(), os.getpid()

#: In place of torch, in the process that is asked what devices there are: so many GPUs, and MPS or not. It computes nothing.
TORCH = """
import os

class _Product:
    def __matmul__(self, other): return self
    def sum(self): return 512.0

class _Properties:
    name, total_memory = "a GPU", 1 << 34

class cuda:
    @staticmethod
    def device_count():
        mask = os.environ.get("CUDA_VISIBLE_DEVICES")
        there = [str(number) for number in range(GPUS)]
        return len(there if mask is None else [one for one in mask.split(",") if one in there or one.startswith("GPU-")])
    @classmethod
    def is_available(cls): return cls.device_count() > 0
    @staticmethod
    def get_device_properties(name): return _Properties

class backends:
    class mps:
        @staticmethod
        def is_available(): return MPS

def ones(*shape, device): return _Product()
"""

Machine = Callable[[int, bool], None]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    yield opened
    opened.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this a machine with so many GPUs, and with MPS or not."""

    def make(gpus: int, mps: bool) -> None:
        folder = tmp_path / "stand-in"
        folder.mkdir(exist_ok=True)
        (folder / "torch.py").write_text(f"GPUS, MPS = {gpus}, {mps}\n{TORCH}")
        monkeypatch.setenv("PYTHONPATH", str(folder) + os.pathsep + os.environ["PYTHONPATH"])
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


def planned(ledger: Ledger, tmp_path: Path, gone: list[str] | None = None, **values: object) -> dict[str, str]:
    """Names without the host, each with the GPU it is pinned to; `gone` gets the names of workers that were found dead."""
    served = {"redis_url": "redis://127.0.0.1:1/0", "qdrant_url": "http://127.0.0.1:1"}
    settings = Settings(data_dir=tmp_path, **{**served, **values})  # type: ignore[arg-type]
    specs = plan(settings, ledger, [Stage.EMBED], told(gone))
    return {spec.name.removesuffix(f"@{HOST}"): spec.visible_gpu for spec in specs}


def told(gone: list[str] | None = None) -> Callable[[str, bool], None]:
    return lambda name, killed: None if gone is None else gone.append(name)


@pytest.mark.parametrize(
    ("gpus", "mps", "values", "expected"),
    [
        (0, False, {}, {"embed-cpu": ""}),
        (0, True, {}, {"embed-mps": ""}),
        (1, False, {}, {"embed-cuda0": ""}),
        (2, False, {}, {"embed-cuda0": "0", "embed-cuda1": "1"}),
        (2, False, {"ingest_device": "cpu"}, {"embed-cpu": ""}),
        (2, False, {"ingest_device": "cuda:1"}, {"embed-cuda1": ""}),
        (0, False, {"ingest_device": "mps"}, {"embed-cpu": ""}),
        (8, False, {"gpu_ids": ("2", "3")}, {"embed-cuda2": "2", "embed-cuda3": "3"}),
        (8, False, {"gpu_ids": ("5",)}, {"embed-cuda5": "5"}),
        (1, False, {"gpu_ids": ("0", "0")}, {"embed-cuda0": "0", "embed-cuda0.2": "0"}),
        (0, False, {"gpu_ids": ("0",)}, {"embed-cpu": "0"}),
        (2, False, {"gpu_ids": ("GPU-7a", "GPU-5c")}, {"embed-cuda0": "GPU-7a", "embed-cuda1": "GPU-5c"}),
        (2, False, {"embed_url": "http://127.0.0.1:1"}, {"embed-http": ""}),
        # The embedded store has one owner.
        (2, False, {"qdrant_url": ""}, {"embed-cuda0": ""}),
        # Nobody is asked where a command embeds by itself.
        (2, False, {"qdrant_url": "", "redis_url": ""}, {"embed": ""}),
        (2, False, {"qdrant_url": "", "redis_url": "", "ingest_device": "cuda:1"}, {"embed-cuda1": ""}),
        (2, False, {"qdrant_url": "", "redis_url": "", "ingest_device": "../x"}, {"embed": ""}),
    ],
)
def test_embed_workers_are_named_by_what_they_run_on(
    gpus: int, mps: bool, values: dict[str, object], expected: dict[str, str], machine: Machine, ledger: Ledger, tmp_path: Path
) -> None:
    machine(gpus, mps)
    assert planned(ledger, tmp_path, None, **values) == expected


def test_a_name_that_is_taken_gets_the_process_id(ledger: Ledger, tmp_path: Path) -> None:
    expected = ["embed-cpu", f"embed-cpu-{PID}", f"embed-cpu-{PID}-2"]
    for name in expected:  # each time another supervisor, in containers with the same process ids
        assert planned(ledger, tmp_path, ingest_device="cpu") == {name: ""}
        assert (file_of(f"{name}@{HOST}"), role_of(f"{name}@{HOST}")) == ("embed-cpu", "embed")
    assert {worker.name for worker in ledger.registry.workers()} == {f"{name}@{HOST}" for name in expected}
    ledger.registry.drop(f"embed-cpu@{HOST}")
    assert planned(ledger, tmp_path, ingest_device="cpu") == {"embed-cpu": ""}


def test_a_gpu_has_one_supervisor(machine: Machine, ledger: Ledger, tmp_path: Path) -> None:
    machine(2, False)
    assert planned(ledger, tmp_path, gpu_ids=("0",)) == {"embed-cuda0": "0"}
    assert planned(ledger, tmp_path, gpu_ids=("1",)) == {"embed-cuda1": "1"}
    with pytest.raises(ConfigError, match=rf"^cuda0 is used by another `kb-ingest` \(process {PID}\): stop it first"):
        planned(ledger, tmp_path, gpu_ids=("0",))


#: Takes the lock that is named, writes a worker down that has its own process id, and waits to be killed.
HELD = """
import sys, time
from pathlib import Path
from workers.process.locks import WorkersLock, announce
lock = WorkersLock(Path(sys.argv[1]))
assert lock.acquire()
announce(lock.fileno(), sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


def test_the_workers_of_a_killed_supervisor_are_forgotten_once_they_are_gone(
    machine: Machine, ledger: Ledger, tmp_path: Path
) -> None:
    machine(1, False)
    gone: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HELD, tmp_path / "locks" / f"embed-cuda0@{HOST}.lock", f"embed-cuda0@{HOST}"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid}"):
            planned(ledger, tmp_path, gone)
        holder.kill()
    assert gone == []
    assert planned(ledger, tmp_path, gone) == {"embed-cuda0": ""}
    assert gone == [f"embed-cuda0@{HOST}"]


def test_clocks(ledger: Ledger, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert [spec.name for spec in clocks(settings, ledger, told())] == [f"beat@{HOST}", f"tick@{HOST}"]
    assert [spec.name for spec in clocks(settings, ledger, told())] == [f"beat@{HOST}", f"tick-{PID}@{HOST}"]

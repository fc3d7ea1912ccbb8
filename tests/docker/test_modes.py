"""The other ways to run it: workers on the host, workers on core sets, a model server on the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.host import envfile
from tests.docker.stack import Stack, run
from tests.embed_server import MODEL, Endpoint
from tests.services import REPOSITORY, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def write(folder: Path) -> None:
    (folder / "bees.txt").write_text("Bees visit flowers for nectar, and a hive holds tens of thousands of them.\n")
    (folder / "stones.txt").write_text("Granite is made of quartz, feldspar and mica.\n")


def test_services_in_containers_and_workers_on_the_host(image: str, tmp_path: Path) -> None:
    with Stack(tmp_path / "native") as stack:
        stack("--profile", "services", "up", "--detach", "--no-build", "--wait", timeout_s=120)
        assert set(stack("ps", "--services").split()) == {"redis", "qdrant"}
        write(stack.documents)
        # The addresses of `init`, with this test's own ports.
        password = stack.env["KB_REDIS_PASSWORD"]
        addresses = {"KB_REDIS_URL": f"redis://:{password}@127.0.0.1:{stack.env['KB_REDIS_PORT']}/0",
                     "KB_QDRANT_URL": f"http://127.0.0.1:{stack.env['KB_QDRANT_PORT']}"}  # fmt: skip
        envfile.update(stack.folder / ".env", addresses, comment="of this test")
        command = [sys.executable, "-m", "workers"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "KB_INGEST_DEVICE": "cpu"}
        with subprocess.Popen([*command, "up"], cwd=stack.folder, env=environment, stderr=subprocess.PIPE, text=True) as up:
            try:
                done = subprocess.run([*command, "load", str(stack.documents), "--json"], cwd=stack.folder, env=environment,
                                      capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
                assert json.loads(done.stdout)["indexed"] == 2
            finally:
                up.send_signal(signal.SIGTERM)
                up.communicate(timeout=60)


def test_cpu_workers_on_cores_of_their_own(image: str, tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    sets = [str(cores[0]), str(cores[-1])]
    with Stack(tmp_path / "pinned", COMPOSE_PROFILES="cpu-pinned", KB_CPUSET_0=sets[0], KB_CPUSET_1=sets[1]) as stack:
        write(stack.documents)
        stack.up()
        assert "worker-embed" not in stack("ps", "--services").split()
        for number in (0, 1):
            assert stack.inspect(f"worker-embed-{number}")["HostConfig"]["CpusetCpus"] == sets[number]
            seen = stack("exec", "-T", f"worker-embed-{number}", "python", "-c", "import os; print(*os.sched_getaffinity(0))")
            assert seen.strip() == sets[number]
        assert json.loads(stack.cli("load", "/documents", "--json"))["indexed"] == 2
        workers = json.loads(stack.cli("status", "--json"))["workers"]
        assert sum(worker["role"] == "embed" for worker in workers) == 2


def test_a_model_server_on_the_host(image: str, tmp_path: Path) -> None:
    ask = ("--add-host", "host.docker.internal:host-gateway", "--entrypoint", "getent", image, "hosts", "host.docker.internal")
    server = Endpoint(ollama=True, host=run("docker", "run", "--rm", *ask).split()[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://host.docker.internal:{server.server_address[1]}"
    try:
        with Stack(tmp_path / "server", KB_EMBED_URL=url, KB_EMBED_MODEL=MODEL) as stack:
            write(stack.documents)
            stack.up()
            report = json.loads(stack.cli("load", "/documents", "--json"))
            assert (report["indexed"], report["device"]) == (2, url)
            assert server.requests
            assert json.loads(stack.cli("search", "bees", "--json"))
    finally:
        server.shutdown()
        server.server_close()


def test_reboot_of_the_engine_is_survived_by_its_restart_policy(image: str, tmp_path: Path) -> None:
    """The engine itself cannot be restarted here; what ends by itself is started again, and not what was stopped."""
    with Stack(tmp_path / "reboot") as stack:
        stack.up("redis", "scheduler")
        first = stack.inspect("scheduler")["State"]
        os.kill(first["Pid"], signal.SIGKILL)
        wait_until(lambda: stack.inspect("scheduler")["State"]["Pid"] not in (0, first["Pid"]), "it runs again", 60, 0.5)
        stack("stop", "scheduler", "--timeout", "30")
        assert stack.inspect("scheduler")["State"]["Status"] == "exited"
        assert stack.inspect("scheduler")["State"]["ExitCode"] in (0, 143)

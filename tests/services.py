"""Real services that tests start for themselves on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.prefork import Prefork

REPOSITORY = Path(__file__).resolve().parents[1]

#: Runs `kb-ingest` commands of this test process.
commands = Prefork()


def free_port() -> int:
    """A port nobody listens on right now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = 180.0, every_s: float = 0.1) -> None:
    """Return when `done` says so; fail with `what` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(every_s)


def _listens(port: int, host: str) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex((host, port)) == 0


class Server:
    """A server process that can be stopped, killed, paused and started again on the same port."""

    def __init__(self, command: Callable[[int], list[str]], folder: Path, name: str, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.host = host
        self.folder = folder
        self.name = name
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / f"{self.name}.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._command(self.port), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        wait_until(lambda: _listens(self.port, self.host), f"{self.name} on port {self.port}", 30)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal and wait."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


def redis_server(folder: Path, *options: str, append_only: bool = True, host: str = "127.0.0.1") -> Server | None:
    """A Redis that is not started yet, or None where there is no redis-server; `options` are more of its own."""
    program = shutil.which("redis-server")
    if program is None:
        return None

    def command(port: int) -> list[str]:
        keep = ["--appendonly", "yes" if append_only else "no", "--appendfsync", "always"]
        return [program, "--port", str(port), "--bind", host, "--dir", str(folder), "--save", "", *keep,
                "--maxmemory-policy", "noeviction", *options]  # fmt: skip

    return Server(command, folder, "redis", host)


class Postgres:
    """A PostgreSQL cluster of its own, run as the user `postgres` when we are root, as the server refuses root."""

    def __init__(self, programs: Path, folder: Path, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self._host = host
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        self._count = 0

    def start(self) -> None:
        """Make the cluster and start it."""
        self._folder.mkdir(mode=0o755)
        if self._user:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "-D", "data", "-A", "trust", "-N", "-U", "postgres")
        options = f"-p {self.port} -c listen_addresses={self._host} -c unix_socket_directories='' -c fsync=off"
        with (self._folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        self._run("pg_ctl", "-D", "data", "-o", options, "-l", "log", "-w", "start")

    def database(self) -> str:
        """A SQLAlchemy URL of a new empty database."""
        self._count += 1
        name = f"kb{self._count}"
        self._run("createdb", "-h", self._host, "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@{self._host}:{self.port}/{name}"

    def schema(self) -> str:
        """A SQLAlchemy URL of a new empty schema: much faster to make, and to remove, than a database."""
        self._count += 1
        name = f"kb{self._count}"
        self._run("psql", "-h", self._host, "-p", str(self.port), "-U", "postgres", "-c", f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://postgres@{self._host}:{self.port}/postgres?options=-csearch_path%3D{name}"

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments], cwd=self._folder, user=self._user, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def postgres_server(folder: Path, host: str = "127.0.0.1") -> Postgres | None:
    """A PostgreSQL that is not started yet, or None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = str(found[-1]) if found else shutil.which("initdb")
    return Postgres(Path(program).parent, folder, host) if program else None


def qdrant_stand_in(folder: Path, *, host: str = "127.0.0.1", api_key: str = "") -> Server:
    """The tests' own server of the used part of Qdrant's REST API, not started yet."""

    def command(port: int) -> list[str]:
        program = str(REPOSITORY / "tests" / "qdrant_rest.py")
        return [
            sys.executable,
            program,
            "--host",
            host,
            "--port",
            str(port),
            "--data",
            str(folder / "points"),
            "--api-key",
            api_key,
        ]

    return Server(command, folder, "qdrant-rest-stand-in", host)


def s3_server(folder: Path, host: str = "127.0.0.1") -> Server:
    """An object store that speaks S3, not started yet; it forgets everything when it ends."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-c", "import sys; from moto.server import main; main(sys.argv[1:])", "-H", host, "-p", str(port)]

    return Server(command, folder, "s3", host)


def s3_environment(server: Server) -> dict[str, str]:
    """What S3 clients read, to find a server of `s3_server`."""
    return {
        "AWS_ENDPOINT_URL": f"http://{server.host}:{server.port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": server.host,
    }  # fmt: skip


def make_bucket(environment: dict[str, str], name: str) -> None:
    """Make a bucket on a server of `s3_server`."""
    import boto3

    boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], aws_access_key_id="test", aws_secret_access_key="test",
        region_name="us-east-1",
    ).create_bucket(Bucket=name)  # fmt: skip


def embed_server(folder: Path, *, delay_s: float = 0.0) -> Server:
    """The tests' own embedding endpoint, not started yet: workers that use it start without torch."""

    def command(port: int) -> list[str]:
        program = str(REPOSITORY / "tests" / "embed_server.py")
        return [sys.executable, program, "--port", str(port), "--delay-s", str(delay_s)]

    return Server(command, folder, "embed-server")


class Cli:
    """Runs `kb-ingest` as a person would: as a process, with an environment of its own."""

    PROGRAM = (sys.executable, "-m", "workers")

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.prefix: tuple[str, ...] = ()  #: a program that runs the command, such as one that enters a network namespace
        self.environment = {**os.environ, "KB_DATA_DIR": str(data_dir), "HF_HUB_OFFLINE": "1", **environment}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and return at once."""
        return subprocess.Popen(
            [*self.prefix, *self.PROGRAM, *arguments], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def answer(self, *arguments: str, status: int = 0) -> Any:
        """Run a command with --json and return the value that it prints."""
        return json.loads(self.run(*arguments, "--json", status=status).stdout)

    def whole(self) -> int:
        """See that the store holds exactly what the ledger says; how many points that is."""
        report = self.answer("verify")
        assert (report["missing"], report["orphans"], report["zero_vectors"]) == (0, 0, 0)
        return int(report["actual_points"])

    def run(self, *arguments: str, status: int | None = 0, timeout_s: float = 480) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `status` is the exit status it must have."""
        try:
            if self.prefix or self.PROGRAM is not Cli.PROGRAM or not commands.serves(self.environment):
                done = subprocess.run(
                    [*self.prefix, *self.PROGRAM, *arguments],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    start_new_session=True,
                    timeout=timeout_s,
                    check=False,
                )
            else:
                done = commands.run(arguments, environment=self.environment, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"kb-ingest {' '.join(arguments)} did not end in {timeout_s} s\n{error.stderr!r}") from None
        if status is not None and done.returncode != status:
            raise AssertionError(
                f"kb-ingest {' '.join(arguments)}: status {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}"
            )
        return done

"""A deployment of the project's own compose files, started and looked into with the real programs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.host import envfile
from tests.services import REPOSITORY, free_port

#: The image that all tests run; built once, again when something in it has changed.
IMAGE = "kb-ingest:test"

#: The base of the tests' image: the project's own, plus the build of torch that pip has at hand on this machine, if it has one.
BASE = "kb-ingest-base:test"

#: Whom containers run as in tests: nobody with files of their own.
USER = 12345


def engine_answers() -> bool:
    """Whether there is an engine, and compose v2."""
    if shutil.which("docker") is None:
        return False
    return all(_quiet("docker", *ask) for ask in (("info",), ("compose", "version")))


def build_image(folder: Path) -> None:
    """Build the `cpu` target as compose does."""
    wheels = folder / "base"
    wheels.mkdir()
    for found in filter(None, os.environ.get("PIP_FIND_LINKS", "").split()):
        for wheel in Path(found).glob(f"torch-*-cp{sys.version_info.major}{sys.version_info.minor}-*"):
            shutil.copy(wheel, wheels)
    (wheels / "none").touch()
    (wheels / "Dockerfile").write_text(
        "FROM python:3.12-slim-bookworm\nCOPY . /opt/wheels/\nENV PIP_FIND_LINKS=/opt/wheels\n", encoding="utf-8"
    )
    run("docker", "build", "--quiet", "--tag", BASE, str(wheels), environment={"DOCKER_BUILDKIT": "0"}, timeout_s=300)
    index = os.environ.get("KB_TEST_TORCH_INDEX", "")
    (folder / ".env").write_text(
        f"KB_IMAGE={IMAGE}\nKB_CPU_BASE_IMAGE={BASE}\nKB_CPU_TORCH_INDEX={index}\nCOMPOSE_PROFILES=containers\n", encoding="utf-8"
    )
    secrets = {"KB_REDIS_PASSWORD": "x", "KB_API_KEY": "x"}
    run(
        "docker", "compose", "--project-directory", str(REPOSITORY), "--env-file", str(folder / ".env"), "build", "worker-parse",
        environment=secrets, timeout_s=1500,
    )  # fmt: skip


def run(*command: str, environment: Mapping[str, str] | None = None, timeout_s: float = 120, status: int | None = 0) -> str:
    """Run a program to its end and return its stdout; fail with all that it said when its status is another."""
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    if status is not None and done.returncode != status:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def image_of(service: str) -> str:
    """The image that compose.yaml names for a service."""
    named = str(yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"][service]["image"])
    return named.partition(":-")[2].rstrip("}")


def _quiet(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Stack:
    """One compose project with an `.env` made by `kb-ingest init`; a context manager that removes it."""

    def __init__(self, folder: Path, data: Path | None = None, **values: str) -> None:
        self.folder = folder
        self.project = f"kbt{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        environment = {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        if data:
            environment["KB_DATA_DIR"] = str(data)
        made = subprocess.run(
            [sys.executable, "-m", "workers", *(["--data-dir", str(data)] if data else []), "init"], cwd=folder,
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        # Engines without CAP_SYS_RESOURCE can raise no limit beyond their own.
        limits = {name: str(resource.getrlimit(kind)[1]) for name, kind in
                  (("KB_QDRANT_NOFILE", resource.RLIMIT_NOFILE), ("KB_EMBED_MEMLOCK", resource.RLIMIT_MEMLOCK))}  # fmt: skip
        ports = {name: str(free_port()) for name in ("KB_REDIS_PORT", "KB_QDRANT_PORT", "KB_FLOWER_PORT", "KB_PORT")}
        users = {"KB_UID": str(USER), "KB_GID": str(USER)} if os.geteuid() == 0 else {}
        images = {"KB_IMAGE": IMAGE, "KB_PROJECT": self.project, "KB_SUITE": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        envfile.update(folder / ".env", limits | ports | users | images | values, comment="of this test")
        self.env = envfile.read(folder / ".env")
        self.data = Path(self.env["KB_DATA_DIR"])
        self.documents = Path(self.env["KB_DOCUMENTS"])
        if users:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, USER, USER, follow_symlinks=False)
        stand_in = () if _quiet("docker", "image", "inspect", image_of("qdrant")) else ("tests/docker/compose.stand-in.yaml",)
        every = ("compose.yaml", *stand_in)
        self._compose = ["docker", "compose", "--project-directory", str(REPOSITORY), "--env-file", str(folder / ".env")]
        self._compose += [part for file in every for part in ("-f", str(REPOSITORY / file))]

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")

    def __call__(self, *arguments: str, timeout_s: float = 180, status: int | None = 0, **environment: str) -> str:
        """`docker compose ARGUMENTS` of this project."""
        return run(*self._compose, *arguments, timeout_s=timeout_s, status=status, environment=environment)

    def up(self, *services: str) -> None:
        """Start and wait until everything is healthy."""
        try:
            self("up", "--detach", "--no-build", "--wait", *services, timeout_s=300)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def cli(self, *arguments: str, status: int | None = 0) -> str:
        """`kb-ingest ARGUMENTS` as a person runs it in this deployment."""
        return self("run", "--rm", "--no-deps", "-T", "cli", *arguments, status=status)

    def logs(self, *services: str) -> str:
        """What the services have said."""
        return self("logs", "--no-color", "--tail", "200", *services, status=None)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine says about a service's container."""
        (name,) = self("ps", "--all", "--quiet", service).split()
        (found,) = json.loads(run("docker", "inspect", name))
        return dict(found)

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every container that runs, by service."""
        for service in self("ps", "--services").split():
            yield service, self.inspect(service)

"""`init`, `assess`, `doctor` and `compose` as a person runs them, in a folder of their own."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.host import envfile
from pipeline.host.engine import Engine
from pipeline.host.models import MODELS, card_of
from pipeline.settings import DEFAULT_MODEL, Settings
from tests.services import commands
from workers.deploy.env import FOLDERS, SERVICES_BYTES, shortfall

GIB = 1 << 30


def kb(folder: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run `kb-ingest ARGUMENTS` in a folder; return both of its outputs."""
    done = commands.run(arguments, folder=folder, environment={**os.environ, **environment}, timeout_s=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def fake_docker(folder: Path, memory: int, system: str = "Debian GNU/Linux 12") -> str:
    """A `docker` that tells of an engine and notes what it is asked to do; returns a PATH that begins with it."""
    programs = folder / "bin"
    programs.mkdir()
    info = json.dumps({"ServerVersion": "29.0", "MemTotal": memory, "NCPU": 4, "OperatingSystem": system})
    (programs / "docker").write_text(f'#!/bin/sh\n[ "$1" = info ] && echo \'{info}\' && exit 0\necho "$@" >> {folder}/asked\n')
    (programs / "docker").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_init_writes_all_that_compose_needs_once(tmp_path: Path) -> None:
    kb(tmp_path, "init")
    env = envfile.read(tmp_path / ".env")
    assert env["COMPOSE_PROFILES"] == "containers"
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert env["KB_REDIS_PASSWORD"] in env["KB_REDIS_URL"]
    assert len({env["KB_REDIS_PASSWORD"], env["KB_API_KEY"], env["KB_FLOWER_AUTH"]}) == 3
    assert min(map(len, (env["KB_REDIS_PASSWORD"], env["KB_API_KEY"]))) >= 32
    assert env["KB_UID"] != "0"
    for name in FOLDERS:
        assert (tmp_path / "data" / name).stat().st_uid == int(env["KB_UID"])
    before = (tmp_path / ".env").read_bytes()
    assert " 0 values set" in kb(tmp_path, "init")
    assert (tmp_path / ".env").read_bytes() == before
    assert len(list(tmp_path.glob(".env*"))) == 1


def test_init_keeps_what_is_set_and_knows_the_native_mode(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KB_REDIS_PASSWORD=mine\nKB_EMBED_MEMORY=7g\nKB_REDIS_PORT=6380\n")
    kb(tmp_path, "--data-dir", str(tmp_path / "elsewhere"), "init", "--native")
    env = envfile.read(tmp_path / ".env")
    assert (env["COMPOSE_PROFILES"], env["KB_EMBED_MEMORY"]) == ("services", "7g")
    assert env["KB_REDIS_URL"] == "redis://:mine@127.0.0.1:6380/0"
    assert env["KB_DATA_DIR"] == str(tmp_path / "elsewhere")
    # What it wrote is what kb-ingest itself reads in this folder.
    assert "KB_REDIS_URL=redis://:****@127.0.0.1:6380/0" in kb(tmp_path, "config")


def test_assess_recommends_and_writes(tmp_path: Path) -> None:
    path = fake_docker(tmp_path, 6 * GIB, "Docker Desktop")
    (tmp_path / ".env").write_text("# mine\nKB_COLLECTION=books\n")
    told: dict[str, Any] = json.loads(kb(tmp_path, "assess", "--json", PATH=path, KB_DATA_DIR=str(tmp_path / "data")))
    assert told["docker"] == {"version": "29.0", "memory_bytes": 6 * GIB, "cores": 4, "desktop": True}
    assert told["docker_bytes"] <= 6 * GIB
    assert told["recommended"]["model"]["name"] in {card.name for card in MODELS}
    text = kb(tmp_path, "assess", "--write", PATH=path, KB_DATA_DIR=str(tmp_path / "data"))
    assert "6.0 GB for containers, in Docker Desktop's virtual machine" in text
    env = envfile.read(tmp_path / ".env")
    assert env.items() >= {**told["env"], "KB_COLLECTION": "books"}.items()
    (backup,) = tmp_path.glob(".env.*.bak")
    assert backup.read_text() == "# mine\nKB_COLLECTION=books\n"


@pytest.mark.slow
def test_a_collection_keeps_its_model(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A document, so that there is a collection.")
    kb(tmp_path, "load", str(tmp_path / "one.txt"), KB_DATA_DIR=str(tmp_path / "data"))
    told = json.loads(kb(tmp_path, "assess", "--json", KB_DATA_DIR=str(tmp_path / "data")))
    assert told["recommended"]["model"]["name"] == DEFAULT_MODEL
    assert "collections" in told["recommended"]["why"]
    settings = Settings(data_dir=tmp_path / "data", model=MODELS[-1].name)
    found = shortfall(settings, Engine("1", 3 * GIB, 2, False), 64 * GIB)
    assert found is not None
    assert found.smaller is None


@pytest.mark.slow
def test_doctor_of_an_embedded_deployment(tmp_path: Path) -> None:
    findings = {one["part"]: one for one in json.loads(kb(tmp_path, "doctor", "--json", KB_DATA_DIR=str(tmp_path / "data")))}
    assert list(findings) == ["versions", "permissions", "disk", "ledger", "broker", "store", "model", "device", "clock"]
    assert {one["state"] for one in findings.values()} == {"ok"}
    assert "canary texts computed on cpu" in findings["device"]["text"]


def test_doctor_says_what_is_wrong_and_what_mends_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KB_REDIS_PASSWORD=x\n")
    (tmp_path / ".env").chmod(0o644)
    wrong = {"KB_DATA_DIR": str(tmp_path / "data"), "KB_REDIS_URL": "redis://127.0.0.1:1/0", "KB_QDRANT_URL": "http://127.0.0.1:1",
             "KB_MODEL": str(tmp_path / "no-model"), "KB_LEASE_S": "1"}  # fmt: skip
    text = kb(tmp_path, "doctor", status=1, **wrong)
    for part in ("broker", "store", "model", "device", "clock"):
        assert f"wrong    {part}: " in text
    assert f"fix: chmod 600 {Path('.env')}" in text
    assert "fix: docker compose --profile services up -d" in text
    assert "ok       ledger" in text


@pytest.mark.parametrize("memory", [2, 4, 5])
def test_compose_takes_a_smaller_model_where_the_chosen_one_does_not_fit(tmp_path: Path, memory: int) -> None:
    path = fake_docker(tmp_path, memory * GIB)
    (tmp_path / ".env").write_text(f"KB_MODEL={MODELS[-1].name}\n")
    kb(tmp_path, "compose", "--yes", "up", "-d", PATH=path, KB_DATA_DIR=str(tmp_path / "data"))
    assert (tmp_path / "asked").read_text() == "compose up -d\n"
    chosen = card_of(envfile.read(tmp_path / ".env")["KB_MODEL"])
    assert chosen is not None
    if memory > 2:
        assert chosen.worker_bytes() + SERVICES_BYTES <= memory * GIB
    else:  # nothing fits: it goes on as it is
        assert chosen is MODELS[-1]


def test_where_nobody_can_be_asked_it_warns_and_goes_on(tmp_path: Path) -> None:
    path = fake_docker(tmp_path, 3 * GIB)
    text = kb(tmp_path, "compose", "up", PATH=path, KB_MODEL=MODELS[-1].name, KB_DATA_DIR=str(tmp_path / "data"))
    assert f"{MODELS[-1].name} needs about 6.6 GB, Docker has 3.0 GB" in text
    assert "starting anyway" in text
    assert (tmp_path / "asked").read_text() == "compose up\n"
    kb(tmp_path, "compose", "ps", "--all", PATH=path, KB_MODEL=MODELS[-1].name)
    assert (tmp_path / "asked").read_text() == "compose up\ncompose ps --all\n"


def test_a_model_that_fits_asks_nothing() -> None:
    assert shortfall(Settings(), Engine("1", 8 * GIB, 4, True), 8 * GIB) is None
    assert shortfall(Settings(model="somebody/else"), Engine("1", GIB, 4, True), GIB) is None
    assert shortfall(Settings(embed_url="http://localhost:1", model=MODELS[-1].name), None, GIB) is None
    found = shortfall(Settings(model=MODELS[-1].name), Engine("1", 4 * GIB, 4, True), 64 * GIB)
    assert found is not None
    assert found.raisable
    tight = shortfall(Settings(model=MODELS[-1].name), Engine("1", 4 * GIB, 4, True), 8 * GIB)
    assert tight is not None
    assert not tight.raisable  # the host itself would have too little left


def test_docker_memory_on_linux_says_that_there_is_no_machine(tmp_path: Path) -> None:
    path = fake_docker(tmp_path, 6 * GIB)
    assert "6.0 GB for containers" in kb(tmp_path, "docker-memory", PATH=path)
    if sys.platform == "linux":
        assert "no virtual machine to size" in kb(
            tmp_path, "docker-memory", "--set", "10g", status=1, HOME=str(tmp_path), PATH=path
        )
    assert "invalid size" in kb(tmp_path, "docker-memory", "--set", "much", status=2, PATH=path)


def test_flower_does_not_start_open(tmp_path: Path) -> None:
    assert "none is configured" in kb(tmp_path, "flower", status=1, KB_DATA_DIR=str(tmp_path / "data"))
    text = kb(tmp_path, "flower", status=1, KB_DATA_DIR=str(tmp_path / "data"), KB_REDIS_URL="redis://127.0.0.1:1/0")
    assert "KB_FLOWER_AUTH" in text
    for auth, said in (
        (":", "user:password"),
        ("user:", "user:password"),
        (":password", "user:password"),
        ("user:pass,word", "comma"),
    ):
        more = {"KB_FLOWER_AUTH": auth, "KB_REDIS_URL": "redis://127.0.0.1:1/0"}
        assert said in kb(tmp_path, "flower", status=1, KB_DATA_DIR=str(tmp_path / "data"), **more)

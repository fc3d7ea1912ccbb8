"""The compose files, the Dockerfile and the code agree with each other; what needs an engine is in tests/docker."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import Settings
from workers.api.serve import STOP_S
from workers.broker.app import SHUTDOWN_S

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "compose.yaml"
FILES = [COMPOSE, REPOSITORY / "compose.gpu.nvidia.yaml", REPOSITORY / "compose.gpu.rocm.yaml"]


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8")))


def compose_variables() -> set[str]:
    """Variables that compose reads from `.env` itself."""
    return {name for path in FILES for name in re.findall(r"\$\{(KB_[A-Z0-9_]+)", path.read_text("utf-8"))}


def test_every_setting_reaches_the_containers() -> None:
    of_the_service = {"KB_HOST", "KB_PORT"} | {f"KB_{name.upper()}" for name in Settings.model_fields if name.startswith("serve_")}
    # A token is for commands that ask a service elsewhere.
    everything = {f"KB_{name.upper()}" for name in Settings.model_fields} - {"KB_TOKEN"}
    ours = everything - of_the_service
    services = read(COMPOSE)["services"]
    embed, parse = services["worker-embed"]["environment"], services["worker-parse"]["environment"]
    assert ours - set(embed) == {"KB_FLOWER_AUTH"}
    secrets = {"KB_FLOWER_AUTH", "KB_API_KEY", "KB_EMBED_API_KEY", "KB_RERANK_API_KEY", "KB_WEBHOOK_URL", "KB_WEBHOOK_SECRET"}
    assert ours - set(parse) == {*secrets, "KB_QDRANT_URL"}
    for name in ("scheduler", "cli", "api"):  # which report runs that have ended
        assert {"KB_WEBHOOK_URL", "KB_WEBHOOK_SECRET"} <= set(services[name]["environment"])
    assert everything - set(services["api"]["environment"]) == {"KB_FLOWER_AUTH"}
    assert "KB_FLOWER_AUTH" in services["flower"]["environment"]
    traced = {name for name, one in services.items() if "KB_OTLP_HEADERS" in one.get("environment", {})}
    assert traced == {"worker-parse", "worker-embed", "worker-embed-0", "worker-embed-1", "scheduler", "api", "cli"}
    # Without a value a variable of .env or the shell is passed on, and one that is not set stays unset.
    assert embed["KB_MODEL"] is None
    assert embed["KB_INGEST_DEVICE"] is None


def test_overrides_touch_only_what_embeds() -> None:
    for path in FILES[1:]:
        services = read(path)["services"]
        assert set(services) == {"worker-embed", "api"}
        assert services["api"] == services["worker-embed"]
        for name in services:
            assert "devices" not in str(read(COMPOSE)["services"][name])


def test_the_service_is_there_wherever_workers_are() -> None:
    services = read(COMPOSE)["services"]
    assert services["api"]["profiles"] == services["worker-parse"]["profiles"]
    assert services["api"]["ports"] == ["127.0.0.1:${KB_PORT:-8700}:8700"]
    assert Settings.model_fields["port"].default == 8700
    assert int(services["api"]["stop_grace_period"].removesuffix("s")) > STOP_S


def test_containers_wait_longer_than_workers_take_to_end() -> None:
    services = read(COMPOSE)["services"]
    assert int(services["worker-embed"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN_S


def test_every_variable_of_compose_is_documented() -> None:
    guide = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")
    settings = {f"KB_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in compose_variables() - settings if f"`{name}`" not in guide} == set()


def test_the_code_knows_no_vendor() -> None:
    vendors = re.compile(r"\b(nvidia|amd|rocm|hip|radeon|geforce|apple|intel)\b", re.I)
    for path in [*(REPOSITORY / "pipeline").rglob("*.py"), *(REPOSITORY / "workers").rglob("*.py")]:
        for line in path.read_text("utf-8").splitlines():
            assert not vendors.search(line), f"{path.name}: {line.strip()}"


def test_the_targets_of_the_image_differ_in_nothing_but_torch() -> None:
    text = (REPOSITORY / "docker" / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^FROM runtime AS (\w+)$", text, re.M) == ["cpu", "nvidia", "rocm"]
    after = text.partition("FROM runtime AS cpu")[2]
    assert {line.split()[0] for line in after.splitlines() if line and not line.startswith("#")} <= {"FROM", "ARG", "RUN", "LABEL"}
    assert "COPY" not in after


def test_the_image_can_hold_every_extra_that_it_names() -> None:
    (names,) = re.findall(r'^ARG EXTRAS="(.+)"$', (REPOSITORY / "docker" / "Dockerfile").read_text("utf-8"), re.M)
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(names.split()) <= set(extras)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ports_are_published_on_loopback_alone(path: Path) -> None:
    for name, service in read(path)["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name

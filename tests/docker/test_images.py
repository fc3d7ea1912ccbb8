"""The image: one application for all vendors, nothing in it that only builds."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import pytest

from tests import ooxml
from tests.docker.stack import BASE, run
from tests.services import REPOSITORY

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def inspect(image: str) -> dict[str, Any]:
    return dict(json.loads(run("docker", "image", "inspect", image))[0])


def build(target: str, torch_for: str) -> subprocess.CompletedProcess[str]:
    """Build a vendor's target over the tests' base, whose torch knows no GPU."""
    compose = json.dumps({"services": {"x": {"image": f"kb-ingest-{target}:test", "build": {
        "context": str(REPOSITORY), "dockerfile": "docker/Dockerfile", "target": target,
        "args": {"BASE_IMAGE": BASE, "TORCH_FOR": torch_for}}}}})  # fmt: skip
    return subprocess.run(
        ["docker", "compose", "--project-name", "kbimages", "-f", "-", "build"], input=compose, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", ["nvidia", "rocm"])
def test_vendors_share_every_layer_of_the_application(image: str, target: str) -> None:
    done = build(target, "")
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (inspect(name)["RootFS"]["Layers"] for name in (image, f"kb-ingest-{target}:test"))
    assert theirs[: len(ours)] == ours
    assert inspect(f"kb-ingest-{target}:test")["Config"]["Labels"]["org.opencontainers.image.ref.name"] == target


@pytest.mark.parametrize(("target", "torch_for"), [("nvidia", "cuda"), ("rocm", "hip")])
def test_a_torch_that_does_not_know_the_devices_is_refused(image: str, target: str, torch_for: str) -> None:
    done = build(target, torch_for)
    assert done.returncode != 0
    assert "AssertionError" in done.stdout + done.stderr


def test_it_says_what_it_is_and_runs_as_nobody_in_particular(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["User"] == "1000:1000"
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert {"title", "description", "licenses", "version", "revision"} <= labels
    assert "kb-ingest 0.1.0" in run("docker", "run", "--rm", "--read-only", image, "version")


def test_nothing_that_only_builds_is_in_it(image: str) -> None:
    probe = (
        "for p in gcc cc make git /opt/venv/bin/pip; do command -v $p; done; python -c 'import pip' 2>/dev/null && echo pip; true"
    )
    assert run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", probe).strip() == ""


def test_it_has_room_for_little_else(image: str) -> None:
    """With its base of .15 GB it has at most 2.5 GB, for the CPU build of torch; tests and headers of libraries are not in it."""
    added = int(inspect(image)["Size"]) - int(inspect(BASE)["Size"])
    assert added < 2.35e9
    probe = "cd /opt/venv/lib/python3*/site-packages && find . -type d -name tests -o -name '*.h' -o -path ./torch/test | head"
    assert run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", probe).strip() == ""


def test_it_says_what_is_inside(image: str) -> None:
    bill = json.loads(run("docker", "run", "--rm", "--read-only", "--entrypoint", "cat", image, "/opt/venv/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"]: part for part in bill["components"]}
    assert {"torch", "celery", "qdrant-client", "unstructured"} <= parts.keys()
    assert parts["celery"]["purl"] == f"pkg:pypi/celery@{parts['celery']['version']}"


def test_every_format_is_read_without_a_network(image: str) -> None:
    """All parsers and the default model are inside: nothing is fetched at run time."""
    made = "/tmp/documents"
    cell = '<c r="A1" t="inlineStr"><is><t>Bees in a sheet.</t></is></c>'
    files = {
        "a.md": b"# A\n\nBees.", "a.html": b"<p>Bees in HTML.</p>", "a.rtf": rb"{\rtf1 Bees in RTF.}", "a.csv": b"a,b\n1,2\n",
        "a.org": b"* Bees\nBees in Org.\n",
        "a.docx": ooxml.word(ooxml.para("Bees in a docx.")), "a.pptx": ooxml.deck(ooxml.shape("Bees on a slide.")),
        "a.xlsx": ooxml.workbook({"Bees": f'<sheetData><row r="1">{cell}</row></sheetData>'}),
    }  # fmt: skip
    packed = {name: base64.b64encode(data).decode() for name, data in files.items()}
    code = (
        f"cd /tmp && python - <<'E' && kb-ingest load {made} --json\n"
        "import base64, pathlib\n"
        f"folder = pathlib.Path('{made}'); folder.mkdir()\n"
        f"for name, data in {packed!r}.items(): (folder / name).write_bytes(base64.b64decode(data))\n"
        "E\n"
    )
    answer = run(
        "docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp:size=512m,mode=1777",
        "--env", "KB_DATA_DIR=/tmp/data", "--entrypoint", "sh", image, "-c", code, timeout_s=180,
    )  # fmt: skip
    report = json.loads(answer)
    assert (report["indexed"], report["quarantined"]) == (8, 0)

"""Everything that a command and its workers write to stderr as JSON, from real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.services import Cli, Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    return Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL="served")


@pytest.fixture
def folder(documents: Path) -> Path:
    """The documents, and one that no parser takes."""
    (documents / "broken.pdf").write_bytes(b"%PDF-1.4 and no end")
    return documents


def rows(stderr: str) -> list[dict[str, Any]]:
    """Every line of stderr, none of which may be anything but JSON."""
    return [json.loads(line) for line in stderr.splitlines()]


def test_every_line_is_json_and_names_run_document_and_stage(cli: Cli, folder: Path) -> None:
    answer = cli.run("--log-format", "json", "--log-level", "debug", "load", str(folder), status=3)
    said = rows(answer.stderr)
    ids = {row["document_id"]: row["document"] for row in said if row["document_id"]}
    assert len(ids) == 5
    assert len(set(ids.values())) == 5
    stages: dict[str, list[str]] = {}
    for row in said:
        if row["document_id"]:
            assert row["run"] == 1
            stages.setdefault(row["document"].rpartition("/")[2], []).append(row["stage"])
    assert {name: sorted(set(found)) for name, found in stages.items()} == {
        "tomatoes.md": ["embed", "load", "parse"], "bees.txt": ["embed", "load", "parse"], "tools.csv": ["embed", "load", "parse"],
        "page.html": ["embed", "load", "parse"], "broken.pdf": ["load", "parse"],
    }  # fmt: skip
    (broken,) = (row for row in said if row["level"] == "warning" and row["document_id"])
    assert (broken["run"], broken["stage"], broken["document"]) == (1, "parse", f"file://{folder}/broken.pdf")
    assert "corrupt" in broken["message"]
    # Each process says what it is; batches are told of at info.
    names = {row["process"].partition("-")[0]: row["pid"] for row in said if row["document_id"]}
    assert set(names) == {"kb", "parse", "embed"}
    assert len(set(names.values())) == 3
    batches = [row for row in said if row["level"] == "info" and " documents, " in row["message"] and row["stage"]]
    assert {row["stage"] for row in batches} == {"parse", "embed"}
    assert all(row["document"] is None and row["run"] == 1 for row in batches)
    assert "run 1: 5 files" in answer.stdout


def test_the_format_reaches_workers_as_a_setting_too(cli: Cli, folder: Path) -> None:
    cli.environment |= {"KB_LOG_FORMAT": "json"}
    said = rows(cli.run("load", str(folder), status=3).stderr)
    assert {row["level"] for row in said} <= {"info", "warning"}
    assert any(row["stage"] == "parse" and row["level"] == "warning" for row in said)
    (folder / "new.txt").write_text("Something new.")
    assert rows(cli.run("load", str(folder), "--no-wait", status=None).stderr)
    said = rows(cli.run("worker", "--until-empty").stderr)
    assert {"parse", "embed"} <= {row["stage"] for row in said}


def test_the_text_of_a_load_says_what_it_always_did(cli: Cli, folder: Path) -> None:
    said = cli.run("load", str(folder), status=3).stderr.splitlines()
    progress = [line for line in said if "done · " in line]
    assert [line for line in said if line not in progress] == [
        next(line for line in said if line.startswith(f"quarantined: file://{folder}/broken.pdf: corrupt: "))
    ]

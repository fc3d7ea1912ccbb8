"""The command line as a whole: every command documented, a quick start, statuses and one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest

from pipeline.chunk.pack import CHUNKER_VERSION
from pipeline.ledger.schema import SCHEMA_VERSION
from pipeline.parse import PARSER_VERSION
from workers.cli import cli, run

OPERATIONS = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text("utf-8")


def commands(group: click.Group, prefix: str = "kb-ingest") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_stands_in_the_guide(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"
    *_, group, last = name.split()
    rows = [line for line in OPERATIONS.splitlines() if line.startswith(f"| `kb-ingest {group} ")] if group != "kb-ingest" else []
    assert f"`{name}" in OPERATIONS or any(f"`{last}`" in row for row in rows), f"{name} is not in docs/operations.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split()[1:], "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def imported(argument: str, names: set[str]) -> set[str]:
    """Those of these packages that a process has imported when it has run `kb-ingest ARGUMENT`."""
    code = (
        f"import sys; from workers.cli import run; status = run([{argument!r}]); "
        f"print(*({names!r} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "celery", "qdrant_client", "qdrant_edge", "pydantic", "sqlalchemy", "numpy", "unstructured"}
    assert imported("--help", heavy | {"click"}) == {"click"}  # that the names are those of packages


def test_the_version_comes_with_the_rules_of_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"kb-ingest {metadata.version('kb-ingest')}"
    assert lines[1].startswith(f"parse fingerprint: parser {PARSER_VERSION}, chardet ")
    assert lines[1].endswith(f", chunker {CHUNKER_VERSION}, chunk options, tokenizer")
    assert lines[2:] == [
        "embed fingerprint: model, revision, dimension, tokens of parts",
        "chunk file: format 2",
        "word weights: bm25-v2",
        f"ledger: schema {SCHEMA_VERSION}",
    ]
    assert run(["version"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert set(lines) <= set(every)
    assert any(line.startswith("torch ") for line in every)
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ledger"] == f"schema {SCHEMA_VERSION}"


def test_the_version_imports_no_model() -> None:
    assert imported("--version", {"torch", "transformers", "unstructured", "qdrant_edge", "qdrant_client", "celery"}) == set()


def test_version_and_config_are_json_on_stdout(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KB_REDIS_URL", "redis://:hush@127.0.0.1:1/0")
    monkeypatch.setenv("KB_API_KEY", "hush-too")
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["celery"]
    assert run(["config", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["data_dir"] == str(data_dir)
    assert "hush" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["search", "x", "--limit", "0"], 2, "--limit"),
        (["search", " "], 2, "the query is empty"),
        (["load"], 2, "PATHS"),
        (["--no-such-option"], 2, "No such option"),
        (["quarantine", "drop"], 2, "select documents to drop"),
        (["search", "x"], 1, "there is no collection"),
        (["load", "/no/such/folder"], 1, "cannot read /no/such/folder"),
    ],
)
def test_errors_are_one_line_with_their_status(
    data_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    assert run(arguments) == status
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_debug_shows_where(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug", "search", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bad_setting_is_named(data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_CHUNK_TOKENS", "many")
    assert run(["status"]) == 1
    assert "KB_CHUNK_TOKENS" in capsys.readouterr().err

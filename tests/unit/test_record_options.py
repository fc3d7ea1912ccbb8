"""The options of records: what they say, what is refused, and that sources keep them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.metadata import Given, fields_as_json, fields_from_json
from pipeline.types import RecordFields
from workers.cli import run
from workers.cli.records import records_options, say_without_records


def chosen(*arguments: str) -> RecordFields | None:
    found: list[RecordFields | None] = []

    @click.command()
    @records_options
    def command(records: RecordFields | None) -> None:
        found.append(records)

    answer = CliRunner().invoke(command, list(arguments))
    if answer.exit_code:
        raise click.UsageError(answer.output)
    return found[0]


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ((), None),
        (("--records",), RecordFields()),
        (("--no-records",), RecordFields(wanted=False)),
        (("--record-id", "key"), RecordFields("key")),
        (("--record-array", "data.items"), RecordFields(array="data.items")),
        (("--record-text", "title, body", "--record-text", "note,title"), RecordFields(text=("title", "body", "note"))),
        (("--records", "--record-metadata", "Team,author.name"), RecordFields(metadata=("Team", "author.name"))),
    ],
)
def test_options_of_records(arguments: tuple[str, ...], fields: RecordFields | None) -> None:
    assert chosen(*arguments) == fields


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--record-metadata", "Title"), "the name is taken by kb-ingest"),
        (("--record-metadata", "7up"), "begins with a letter"),
        (("--no-records", "--record-id", "id"), "--no-records: leave out --record-id"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        chosen(*arguments)


def test_a_named_file_that_cannot_hold_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.txt", "a.jsonl", "a.CSV"):
        (tmp_path / name).write_text("x")
    say_without_records([str(tmp_path / name) for name in ("a.txt", "a.jsonl", "a.CSV", "none", ".")], RecordFields())
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [str(tmp_path / "a.txt")]
    say_without_records([str(tmp_path / "a.txt")], None)
    assert capsys.readouterr().err == ""


def test_a_source_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KB_DATA_DIR", str(tmp_path / "data"))
    for name, options in (("a", ["--record-id", "key"]), ("b", []), ("c", ["--no-records"])):
        (tmp_path / name).mkdir()
        assert run(["source", "add", name, str(tmp_path / name), *options]) == 0
    capsys.readouterr()
    assert run(["source", "list", "--json"]) == 0
    kept = [one["records"] for one in json.loads(capsys.readouterr().out)]
    assert kept == [
        asdict(RecordFields("key")) | {"text": [], "metadata": []},
        None,
        asdict(RecordFields(wanted=False)) | {"text": [], "metadata": []},
    ]


def test_the_choice_is_kept_with_a_file_and_decides_its_fingerprint() -> None:
    fields = RecordFields("key", ("a", "b"), ("c",), array="data.items")
    given = Given(records=fields)
    assert Given.read(str(given)) == given
    assert fields_from_json(json.loads(json.dumps(fields_as_json(fields)))) == fields
    usual = "0123456789abcdef"
    makers = (Given(), Given(records=fields), Given(records=RecordFields("key")), Given(record={}))
    prints = [one.parse_fingerprint(usual) for one in makers]
    assert prints[0] == usual
    assert len(set(prints)) == 4
    assert {len(one) for one in prints} == {16}
    # What a record says of itself does not change how it is read.
    assert Given({"a": 1}, record={"team": "law"}).parse_fingerprint(usual) == prints[3]
    assert Given.read(str(Given(record={}))).record == {}

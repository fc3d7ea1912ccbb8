"""Texts of strangers hide nothing and drive no terminal, and stay the words they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.text import one_line, visible
from pipeline.types import Hit, Reason
from tests.unit.test_report import fail, stage
from workers.cli import run
from workers.cli.context import print_json, say
from workers.cli.search import _print_hits

#: Colours, a title of the window in 8-bit controls, a faked line, a turned-around end, what takes no room, half a character.
HOSTILE = "\x1b[31mred \x9d0;title\x9c\r\nquarantined: nothing\x85\u202egpj.exe\u200b\ufeff\ud800"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x9bb\x7f", r"a\u001b[2J\u009bb\u007f"),
        ("a\r\nb\tc\u2028d", r"a\u000d\u000ab\u0009c\u2028d"),
        ("a\u202egpj\u2066\u061c", r"a\u202egpj\u2066\u061c"),
        ("caf\udce9", r"caf\udce9"),
        # Languages and pictures are spelled with joiners, spaces that do not break, accents of their own.
        *[(kept, kept) for kept in ("می\u200cخواهم", "क्\u200dष", "👩\u200d🔬", "12\u00a0%", "全\u3000角", "e\u0301", "naïve 🦀")],
    ],
)
def test_what_is_not_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()  # can be stored


def test_what_is_kept_stays() -> None:
    assert visible("a\tb\nc\x1b\r", kept="\t\n") == "a\tb\nc\\u001b\\u000d"


def test_errors_of_several_lines_become_one() -> None:
    assert one_line("Unexpected response: 500\r\n\tcontent:\n  \x1b[31mbusy\u202e\n") == (
        r"Unexpected response: 500 content: \u001b[31mbusy\u202e"
    )


def test_no_command_lets_a_document_drive_the_terminal(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data_dir=data_dir).prepare()
    ledger = Ledger.open(settings.ledger_url)
    number = ledger.runs.start(settings.collection)
    ids = stage(ledger, number, {"a.txt": 10})
    fail(ledger, ids["a.txt"], Reason.CORRUPT, HOSTILE.replace("\ud800", ""))
    ledger.runs.end(number, "failed", HOSTILE.replace("\ud800", ""))
    ledger.close()
    commands = (["quarantine", "show"], ["status"], ["report"], ["runs"], ["logs", "--document", "file:///doc/a.txt"])
    for command in commands:
        run(command)
        said = capsys.readouterr().out
        assert said == visible(said, kept="\n"), command
        assert r"\u001b[31mred \u009d0;title" in said, command
        assert "u000a" not in said, command  # errors are read, not deciphered
        assert not any(line.startswith("quarantined: nothing") for line in said.splitlines()), command


def test_neither_a_hit_nor_an_error_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _print_hits([Hit(0.5, "s3://shelf/\u202ex.md", HOSTILE, HOSTILE, (HOSTILE,), None, None, None, None, "d", "c")])
    said = capsys.readouterr().out
    assert said == visible(said, kept="\n")
    assert len(said.splitlines()) == 4
    say(f"error: {HOSTILE}\n\tmore")
    said = capsys.readouterr().err
    assert said == visible(said, kept="\t\n")
    assert said.endswith("\n\tmore\n")


def test_json_says_the_same_and_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"title": HOSTILE, "uri": "naïve 👩\u200d🔬"})
    said = capsys.readouterr().out
    assert said == visible(said, kept="\n")
    assert "naïve 👩\u200d🔬" in said
    assert json.loads(said)["title"] == HOSTILE

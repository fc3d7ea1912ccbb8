"""Log lines as JSON: always one line, always valid, with what the code is about."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.telemetry.context import About, about, current
from pipeline.text import well_formed
from workers import logs
from workers.cli import run
from workers.logs import JsonLine, set_up

KEYS = {
    "time", "level", "logger", "message", "run", "stage", "document", "document_id", "request", "process", "host", "pid",
    "exception",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_hooks() -> Iterator[None]:
    """What is set up in this process ends with the test."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before
    logging.captureWarnings(False)


def line(message: object, *arguments: object, error: BaseException | None = None) -> dict[str, Any]:
    """What a log call gives, read back."""
    trace = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("some.module", logging.WARNING, "file.py", 1, message, arguments, trace)
    text = JsonLine("parse-0-7").format(record)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    row: dict[str, Any] = json.loads(text)
    assert set(row) == KEYS
    return row


def test_a_line_has_what_is_known_and_null_for_the_rest() -> None:
    row = line("%d of %s", 3, "four")
    assert (row["level"], row["logger"], row["message"], row["process"]) == ("warning", "some.module", "3 of four", "parse-0-7")
    assert [row[key] for key in ("run", "stage", "document", "document_id", "exception")] == [None] * 5
    with about(run=7, stage="parse"):
        with about(document="id", uri="file:///a.md"):
            row = line("x")
        assert (row["run"], row["stage"], row["document"], row["document_id"]) == (7, "parse", "file:///a.md", "id")
        assert line("x")["document"] is None
    assert current() == About()


def test_times_are_utc_with_milliseconds() -> None:
    text = line("x")["time"]
    assert len(text) == len("2026-01-02T03:04:05.678Z")
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["two\nlines\r\n", "\u2028\u2029\x85", "\x00\x1b[31m", '"quoted" \\', "naïve 漢字 🦀"])
def test_whatever_a_message_holds_comes_back(text: str) -> None:
    assert line("%s", text)["message"] == text


def test_names_that_are_no_utf8_are_written_out() -> None:
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    assert line("%s", name)["message"] == well_formed(name) == "caf\\udce9.txt"
    with about(uri=name):
        assert line("x")["document"] == "caf\\udce9.txt"


def test_an_exception_is_a_field() -> None:
    try:
        raise ConfigError("two\nlines \udce9")
    except ConfigError as error:
        row = line("it failed", error=error)
    assert row["message"] == "it failed"
    assert row["exception"].startswith("Traceback (most recent call last):\n")
    assert row["exception"].endswith("lines \\udce9")


@pytest.mark.parametrize("odd", ["x", "漢", "🦀", '"', "\n"])
def test_a_line_for_a_pipe_is_cut_where_it_matters_least(odd: str) -> None:
    try:
        raise ConfigError(odd * 9000 + "the cause")
    except ConfigError as error:
        record = logging.LogRecord("m", logging.ERROR, "f", 1, "first words " + odd * 9000, (), (type(error), error, None))
    with about(run=7, document="id", uri="file:///" + odd * 9000 + "/name.md"):
        whole, text = JsonLine("parse").format(record), JsonLine("parse", 4096).format(record)
    assert 4000 < len(text) < 4096
    cut, row = json.loads(text), json.loads(whole)
    assert set(cut) == KEYS
    assert cut["message"].startswith("first words " + odd)
    assert cut["message"].endswith("[...]")
    assert cut["exception"].startswith("[...]")
    assert cut["exception"].endswith(odd + "the cause")
    assert cut["document"].endswith("/name.md")
    assert (cut["run"], cut["document_id"]) == (7, "id")
    assert row["message"] == "first words " + odd * 9000


def test_lines_of_processes_that_share_a_pipe_are_not_torn() -> None:
    code = (
        "import logging, sys\n"
        "from workers.logs import set_up\n"
        "set_up('info', log_format='json', prefix=sys.argv[1])\n"
        "for number in range(200):\n"
        "    logging.getLogger('x').info('%d %s', number, sys.argv[1] * 9000)\n"
    )
    read, write = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", code, name], stderr=write) for name in "abcd"]
    os.close(write)
    with open(read, encoding="ascii") as lines:
        rows = [json.loads(one) for one in lines]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    for name in "abcd":
        assert [int(row["message"].split()[0]) for row in rows if row["process"] == name] == list(range(200))


def test_lines_in_a_file_are_whole(tmp_path: Path) -> None:
    code = "import logging; from workers.logs import set_up; set_up('info', log_format='json'); logging.info('y' * 9000)"
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stderr=log, check=True)
    assert json.loads((tmp_path / "log").read_text())["message"] == "y" * 9000


def test_arguments_that_do_not_fit_break_nothing() -> None:
    assert line("%d files", "no number")["message"] == "%d files ('no number',)"
    assert line({"not": "a text"})["message"] == "{'not': 'a text'}"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


def test_what_cannot_be_written_breaks_no_line() -> None:
    words = "file.py:1 logs a message that cannot be formatted: RuntimeError"
    assert line("%s", Unspeakable())["message"] == words
    assert line(Unspeakable())["message"] == words


def test_a_thread_is_about_nothing_unless_it_is_told() -> None:
    with about(run=3), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current).result() == About()
        assert pool.submit(copy_context().run, current).result().run == 3


def test_quarantined_documents_are_left_out_where_load_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    def said(level: str, **options: Any) -> list[str]:
        set_up(level, **options)
        logging.getLogger(logs.OUTCOMES).warning("a document")
        logging.getLogger("pipeline.other").warning("trouble")
        text = capsys.readouterr().err
        return [word for word in ("a document", "trouble") if word in text]

    assert said("warning") == ["trouble"]
    assert said("info") == ["a document", "trouble"]
    assert said("warning", log_format="json") == ["a document", "trouble"]


def test_nothing_in_a_line_for_people_drives_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", prefix="parse")
    try:
        raise ValueError("no sheet \x9b2J\u202egpj")
    except ValueError as error:
        logging.getLogger("some.module").info("is quarantined:\tcorrupt: %s\x1b[2J", error, exc_info=True)
    text = capsys.readouterr().err
    assert text.splitlines()[0].endswith("is quarantined:\tcorrupt: no sheet \\u009b2J\\u202egpj\\u001b[2J")
    assert text.splitlines()[-1] == "ValueError: no sheet \\u009b2J\\u202egpj"


def test_what_python_itself_complains_of_is_json_too() -> None:
    code = (
        "import sys, threading, warnings\n"
        "from workers.logs import set_up\n"
        "set_up('debug', log_format='json', prefix='embed-0-1')\n"
        "warnings.warn('careful\\nplease')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='counting')\n"
        "thread.start(); thread.join()\n"
        "class Odd:\n"
        "    def __del__(self): raise KeyError('lost')\n"
        "Odd()\n"
        "raise SystemError('the end')\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    rows = [json.loads(one) for one in answer.stderr.splitlines()]
    assert [row["logger"] for row in rows] == ["py.warnings", *["workers.logs"] * 3]
    assert "careful\nplease" in rows[0]["message"]
    assert "ZeroDivisionError" in rows[1]["exception"]
    assert "counting" in rows[1]["message"]
    assert "KeyError: 'lost'" in rows[2]["exception"]
    assert "Odd.__del__" in rows[2]["message"]
    assert "SystemError: the end" in rows[3]["exception"]
    assert {row["process"] for row in rows} == {"embed-0-1"}


@pytest.mark.parametrize("arguments", [["load"], ["load", "/nowhere/at/all"], ["--debug", "sync", "no-such-source"]])
def test_errors_of_commands_are_json_where_lines_are(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--log-format", "json", *arguments]) in (1, 2)
    rows = [json.loads(one) for one in capsys.readouterr().err.splitlines()]
    assert rows[-1]["level"] == "error"
    assert (rows[-1]["exception"] is not None) == (arguments[0] == "--debug")

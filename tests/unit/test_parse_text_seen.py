"""Texts, tables, notebooks and mails: what their readers see, and none of the marks that they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.parse.markdown_inline import shown_words
from pipeline.parse.parsed import clean
from pipeline.types import LossKind
from tests.reading import read_bytes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\x9b31mred\x9b0m end", "red end"),
        ("\x9bHome\x9b ok", "\x9bHome\x9b ok"),
        ("^[[1;31mred^[[0m end", "red end"),
        ("\u241b[31mred\u241b[0m end", "red end"),
        ("before\x1bPq#0;2;0;0;0~\x1b\\ after", "before after"),
        ("a range ^[[0-9]+$ of digits", "a range ^[[0-9]+$ of digits"),
        ("le\u202aft ri\u2066gh\u2069t \u200fmark\u200e", "left right mark"),
        ("v\u2062D\u2062ρ", "vDρ"),
        ("Gro\u0308ße e\u0301te\u0301, か\u3099き", "Größe été, がき"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
    ],
)
def test_marks_inside_text(text: str, told: str) -> None:
    assert clean(text) == told


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("Value\n1,5\n2,25\n-3,0\n", ["1,5", "2,25", "-3,0"]),
        ("Greeting\nHello, world\nGood day, Ann\n", ["Hello, world", "Good day, Ann"]),
        ("Report\n1,2,3\n4,5,6\n", ["1 | 2 | 3", "4 | 5 | 6"]),
        ("a,b\n1,5\n2,5\n", ["1 | 5", "2 | 5"]),
        ("Temperature readings\n12.5,13.1\n11.0,12.0\n", ["12.5 | 13.1", "11.0 | 12.0"]),
        ("date\n2020-01-01,5\n2020-01-02,6\n", ["2020-01-01 | 5", "2020-01-02 | 6"]),
        ('Code;Size\n="A"&B1&"C";7\n', ['="A"&B1&"C" | 7']),
        ('Code;Size\n="00123";7\n="a""b";8\n', ["00123 | 7", 'a"b | 8']),
    ],
    ids=["decimals", "sentences", "title", "two columns", "numbers with points", "dates", "a formula", "texts as formulas"],
)
def test_cells_of_csv_as_a_spreadsheet_shows_them(content: str, texts: list[str], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.csv", content).texts[-len(texts) :] == texts


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"price": 19.90, "exact": 12345678901234567890.125}', "price: 19.90\nexact: 12345678901234567890.125"),
        ('{"at": [7.10, 50, null]}', "at: 7.10, 50, null"),
        ('{"other": 1, "a": {"note": "first", "note": "second"}}', "other: 1\na.note: first, second"),
        ('{"text": "Tom &amp; Jerry &#8211; R&D"}', "text: Tom & Jerry – R&D"),
        ('{"text": "&lt;p&gt;Escaped&lt;/p&gt;"}', "text: Escaped"),
        ('{"text": "&lt;p&gt;Use &lt;script&gt;a()&lt;/script&gt;.&lt;/p&gt;"}', "text: Use <script>a()</script>."),
        ('{"text": "In &lt;script&gt;alert()&lt;/script&gt; of a name"}', "text: In <script>alert()</script> of a name"),
        ('{"text": "&lt;br&gt; ends a line, &lt;/p&gt; a block"}', "text: <br> ends a line, </p> a block"),
        ('{"text": "a=1&copy=2 and R&amp;D"}', "text: a=1&copy=2 and R&D"),
        ('{"text": "List<p> x and Map<li> y"}', "text: List<p> x and Map<li> y"),
        ('{"text": "One<br>two <p>three"}', "text: One\ntwo \n\nthree"),
        ('{"other": 1, "text": ["y", 19.90]}', "other: 1\ntext: y\ntext: 19.90"),
        ('{"text": "<img src=\\"a.png\\"> beside"}', "text: beside"),
        ('{"text": "List<String> and a < b"}', "text: List<String> and a < b"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_values_of_json_as_they_are_written(content: str, told: str, name: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, name, content).text == told


@pytest.mark.parametrize(
    ("label", "codec"), [("ISO-8859-2", "iso8859_2"), ("KOI8-R", "koi8_r"), ("UTF-8", "utf-8"), ("CHARSET", "utf-8")]
)
def test_a_catalogue_in_the_encoding_that_it_declares(label: str, codec: str, tmp_path: Path) -> None:
    word = "ключ" if codec == "koi8_r" else "žluťoučký"
    content = f'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={label}\\n"\n\nmsgid "key"\nmsgstr "{word}"\n'
    assert read_bytes(tmp_path, "a.po", content.encode(codec)).texts[-1] == f"key\n{word}"


def test_a_catalogue_whose_bytes_do_not_fit_what_it_declares(tmp_path: Path) -> None:
    content = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "key"\nmsgstr "Schlüssel für das Gebäude"\n'
    assert read_bytes(tmp_path, "a.po", content.encode("cp1252")).texts[-1] == "key\nSchlüssel für das Gebäude"


PICTURE = "iVBORw0KGgo" + "A" * 300


def told_by(tmp_path: Path, **output: object) -> tuple[str, dict[LossKind, int]]:
    cell = {"cell_type": "code", "source": "shown()", "metadata": {}, "outputs": [output]}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    found = read_bytes(tmp_path, "a.ipynb", json.dumps(book))
    return "\n".join(found.texts[1:]), found.lost


@pytest.mark.parametrize(
    ("data", "told", "pictures"),
    [
        ({"text/html": "<b>Bold</b> words", "text/plain": "<IPython.core.display.HTML object>"}, "Bold words", 0),
        ({"text/html": "<p>Help that repeats</p>", "text/plain": "Regression()"}, "Regression()", 0),
        ({"text/latex": "$x^2$", "image/png": PICTURE, "text/plain": "x**2"}, "x**2", 0),
        ({"text/latex": "$x^2$"}, "$x^2$", 0),
        ({"image/png": PICTURE, "text/plain": "<Figure size 640x480 with 1 Axes>"}, "", 1),
        ({"image/png": PICTURE, "text/plain": "[<Line2D at 0x7f>, 3]"}, "[<Line2D at 0x7f>, 3]", 1),
        ({"application/json": {"port": "north"}, "text/plain": "<IPython.core.display.JSON object>"}, "port: north", 0),
    ],
)
def test_the_best_form_of_an_output(data: dict[str, object], told: str, pictures: int, tmp_path: Path) -> None:
    found, lost = told_by(tmp_path, output_type="display_data", metadata={}, data=data)
    assert (found, lost.get(LossKind.PICTURE, 0)) == (told, pictures)


def test_a_bar_of_progress_is_its_last_state(tmp_path: Path) -> None:
    text = "Start\r\n 10%|#\r 50%|#####\r100%|##########\r\nDone\n"
    assert told_by(tmp_path, output_type="stream", name="stderr", text=text)[0] == "Start\n100%|##########\nDone"


def test_blanks_over_a_line_leave_its_words(tmp_path: Path) -> None:
    text = "Loading\rSaved 3 files\r             \nA\r \rB\n"
    assert told_by(tmp_path, output_type="stream", name="stdout", text=text)[0] == "Saved 3 files\nB"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *((text, text) for text in ("log*.gz and tmp*.gz", "char *a,*b", "f(*a,*b)", "(a*b)*c", "price*, tax* apply")),
        *((text, text) for text in ("_x = 3; _ = 4", "f(**a,**b)", "x <!-- never closed > y")),
        ("a*b*c", "abc"),
        ("**Bold**, *(in brackets)* and ***both***, _so_ and __so__", "Bold, (in brackets) and both, so and so"),
        ("これは**重要**です", "これは重要です"),
        ("seen <!-- a > b --> seen <!--> end", "seen  seen  end"),
    ],
)
def test_marks_that_a_page_of_markdown_shows(text: str, told: str) -> None:
    assert shown_words(text) == told


@pytest.mark.parametrize("content", ['{"a": "data:image/png;base64,%s", "b": "after"}', '{"a": "%s", "b": "after"}'])
def test_pictures_in_base64_of_few_characters(content: str, tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.json", content % PICTURE)
    assert "AAAA" not in found.text
    assert "after" in found.text


MAIL = "From: a@x.example\nTo: b@x.example\nDate: Mon, 2 Mar 2026 10:00:00 +0100\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (MAIL + "Subject: =?utf-8?Q?K=C3=BC ndigung f=C3=BCr?= M\n\nBody.\n", "Kü ndigung für M"),
        ("\ufeff" + MAIL + "Subject: With a mark\n\nBody.\n", "With a mark"),
        (MAIL + "Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=none\n\nA body alone.\n", "A body alone."),
    ],
    ids=["spaces", "mark", "boundary"],
)
def test_mails_that_break_the_rules(content: str, told: str, tmp_path: Path) -> None:
    assert told in read_bytes(tmp_path, "a.eml", content).texts

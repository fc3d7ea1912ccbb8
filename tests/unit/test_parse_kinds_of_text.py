"""Texts for people in formats for machines: notebooks, subtitles, catalogues, logs, TeX, and text that is no text."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.machine import without_machine_text
from pipeline.types import ElementKind, LossKind
from tests.reading import read_bytes

ENCODED = base64.b64encode(random.Random(7).randbytes(3000)).decode()


def notebook(*cells: Mapping[str, object]) -> str:
    return json.dumps({"nbformat": 4, "cells": cells})


def test_notebooks_by_cell(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "text": ["one\n", "\x1b[31mtwo\x1b[0m\n"]},
        {
            "output_type": "execute_result",
            "data": {"text/html": "<table><tr><th>Ship</th></tr><tr><td>Ada</td></tr></table>", "text/plain": "x"},
        },
        {"output_type": "display_data", "data": {"image/png": ENCODED, "text/plain": "<Figure>"}},
        {"output_type": "error", "ename": "KeyError", "evalue": "'berth'", "traceback": ["\x1b[0;31mKeyError"]},
    ]
    found = read_bytes(
        tmp_path,
        "a.ipynb",
        notebook(
            {"cell_type": "markdown", "source": ["# Tides\n", "The gauge `N-3`.\n", f"![x](data:image/png;base64,{ENCODED})"]},
            {"cell_type": "code", "source": "plot(level)", "outputs": outputs},
            {"cell_type": "raw", "source": "raw text"},
        ),
    )
    assert found.title == "Tides"
    assert found.texts == ["Tides", "The gauge N-3.\nx", "plot(level)", "one\ntwo", "Ada", "KeyError: 'berth'", "raw text"]
    assert found.lost == {LossKind.PICTURE: 1}


def test_old_notebooks_and_those_that_are_none(tmp_path: Path) -> None:
    old = {
        "worksheets": [{"cells": [{"cell_type": "heading", "level": 2, "source": "Old"}, {"cell_type": "code", "input": "x = 1"}]}]
    }
    assert read_bytes(tmp_path, "a.ipynb", json.dumps(old)).texts == ["Old", "x = 1"]
    assert read_bytes(tmp_path, "b.ipynb", '{"title": "not a notebook"}').texts == ["title: not a notebook"]
    assert "not JSON" in read_bytes(tmp_path, "c.ipynb", "not JSON").text


def test_a_long_output_is_cut_by_name(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": "run()", "outputs": [{"output_type": "stream", "text": "word " * 10_000}]}
    found = read_bytes(tmp_path, "a.ipynb", notebook(cell))
    assert found.text.count("word") == 4000
    assert [(loss.kind, loss.place) for loss in found.losses] == [(LossKind.CUT_TEXT, "cell 1")]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\nWe <i>sailed</i>\nat noon.\n\n2\n00:01:05,000 --> 00:01:06,000\nAnd then?\n",
            ["[00:00:01] We sailed at noon. And then?"],
        ),
        (
            "a.vtt",
            "WEBVTT - x\n\nSTYLE\n::cue { color: red }\n\nNOTE not spoken\n\nintro\n00:01.000 --> 00:04.000 align:left\n"
            "<v Ada>Hello &amp; welcome"
            "</v>\n\n00:05.000 --> 00:06.000\nHello &amp; welcome\n",
            ["[00:01] Ada: Hello & welcome Hello & welcome"],
        ),
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\nAt noon.\n2\n00:00:03,000 --> 00:00:04,000\nWe sailed.\n",
            ["[00:00:01] At noon. We sailed."],
        ),
        ("a.srt", "".join(f"{n}\n00:0{n}:00,000 --> 00:0{n}:01,000\n{'word ' * 40}end {n}.\n\n" for n in range(4)), None),
    ],
    ids=["srt", "vtt", "without blank lines", "long"],
)
def test_subtitles(name: str, content: str, texts: list[str] | None, tmp_path: Path) -> None:
    found = read_bytes(tmp_path, name, content)
    if texts is None:
        assert [text[:10] for text in found.texts] == ["[00:00:00]", "[00:02:00]"]
        assert all(f"end {n}." in found.text for n in range(4))
    else:
        assert found.texts == texts


def test_message_catalogues(tmp_path: Path) -> None:
    po = (
        'msgid ""\nmsgstr "Language: de\\n"\n\n#: a.c:1\nmsgctxt "menu"\nmsgid "cancel"\nmsgstr "Abbre"\n"chen"\n\n'
        'msgid "%d ship"\nmsgid_plural "%d ships"\nmsgstr[0] "%d Schiff"\nmsgstr[1] "%d Schiffe"\n\nmsgid "a \\"b\\""\nmsgstr""\n'
    )
    assert read_bytes(tmp_path, "de.po", po).texts == [
        "Language: de",
        "menu\ncancel\nAbbrechen",
        "%d ship\n%d ships\n%d Schiff\n%d Schiffe",
        'a "b"',
    ]


def test_tex_org_and_asciidoc(tmp_path: Path) -> None:
    tex = '\\documentclass{article}\\title{Mills}\\author{Ada}\\begin{document}\\maketitle\\section{M\\"uhle}'
    tex += 'In K\\"oln, \\textbf{stra\\ss e}.\\end{document}'
    found = read_bytes(tmp_path, "a.tex", tex)
    assert (found.title, found.texts) == ("Mills", ["Mills", "Ada", "Mühle", "In Köln, straße."])
    table = "| Berth | Fee |\n|-------+-----|\n| North | 40  |\n"
    assert read_bytes(tmp_path, "a.org", f"* Head\nText /here/.\n{table}").texts == ["Head", "Text here.", "North | 40"]
    adoc = "= Guide\nAda\n\nIntro.\n\n== Ropes\n\n|===\n|Berth |Fee\n\n|North |40\n|===\n"
    found = read_bytes(tmp_path, "a.adoc", adoc)
    assert [found.texts[0], *found.texts[-2:]] == ["Guide", "Ropes", "North | 40"]


def test_tex_that_pandoc_refuses_keeps_its_text(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.tex", "\\begin{document} Words stay {\\textbf{open \\end{document}")
    assert "Words stay" in found.text
    assert found.lost.keys() <= {LossKind.UNREADABLE_PART}


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "ACGT" * 500,
        "word " * 500,
        "a/b_c-d/" * 60,
        "https://example.org/" + "path/" * 50,
        "4d7a2146" * 8,
        "Donaudampfschifffahrtsgesellschaft" * 6,
        "0123456789" * 60,
    ],
    ids=lambda t: t[:12],
)
def test_long_words_are_text(text: str) -> None:
    assert without_machine_text(text) == (text, 0)


@pytest.mark.parametrize(
    "text",
    [
        ENCODED,
        f"data:image/png;base64,{ENCODED}",
        "\n".join(ENCODED[at : at + 76] for at in range(0, 1500, 76)),
        f"-----BEGIN CERTIFICATE-----\n{ENCODED[:64]}\n{ENCODED[64:128]}\n-----END CERTIFICATE-----",
        random.Random(3).randbytes(400).hex(),
    ],
    ids=["run", "address", "lines", "armour", "hexadecimal"],
)
def test_encoded_bytes_are_no_text(text: str) -> None:
    kept, removed = without_machine_text(f"Before\n{text}\nafter.")
    assert removed == 1
    assert kept.split() == ["Before", "after."]


def test_encoded_bytes_are_named_as_a_loss_in_any_format(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", f"Words.\n\n{ENCODED}\n"),
        ("a.json", json.dumps({"k": "Words.", "b": ENCODED})),
        ("a.md", f"Words. {ENCODED}"),
    ):
        found = read_bytes(tmp_path, name, content)
        assert "Words." in found.text
        assert ENCODED[:40] not in found.text
        assert found.lost == {LossKind.MACHINE_TEXT: 1}


@pytest.mark.parametrize(
    ("divided", "told"),
    [
        ("main~tenance", "maintenance"),
        ("state-of-the~art", "state-of-the-art"),
        ("long~term", "long-term"),
        ("E~Mail", "E-Mail"),
        ("Baden~Baden", "Baden-Baden"),
        ("12~14", "12-14"),
        ("water~proof", "waterproof"),
        ("infor~mation", "information"),
        ("re~defined", "redefined"),
        ("co~operate", "co-operate"),
        ("left ~ alone", "left - alone"),
    ],
)
def test_divided_words(divided: str, told: str) -> None:
    words = Words()
    words.learn(["They co-operate well."])
    assert words.undivided(divided.replace("~", DIVIDED)) == told


def test_json_with_pages_inside(tmp_path: Path) -> None:
    found = read_bytes(
        tmp_path, "cms.json", '{"body": "<h2>Hours<\\/h2><p>Open from M&auml;rz<br>on.</p>", "id": 12345678901234567890}'
    )
    assert "<" not in found.text
    assert "Open from März" in found.text
    assert "12345678901234567890" in found.text


def test_kinds_keep_their_offsets_and_codes(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.yaml", "# harbour\nberths:\n  - north\n")
    assert found.of(ElementKind.CODE) == ["# harbour\nberths:\n  - north"]


def test_address_cards(tmp_path: Path) -> None:
    card = (
        "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Gr=C3=BCn=\r\nwald;J=C3=B6rg;;;\r\n"
        "item1.TEL;TYPE=CELL,WORK:+49 123\r\nORG:Hafen\\, Nord;Pier 3\r\nNOTE:Key in the har\r\n bour\\; ask\\nAda\r\n"
        f"PHOTO;ENCODING=b;TYPE=JPEG:{ENCODED}\r\nX-ABLABEL:never\r\nEND:VCARD\r\nBEGIN:VCARD\r\nFN:Bo\r\nEND:VCARD\r\n"
    )
    found = read_bytes(tmp_path, "a.vcf", card)
    assert found.media_type == "text/vcard"
    assert found.texts == [
        "Family and given name: Grünwald, Jörg\nPhone (cell,work): +49 123\nOrganization: Hafen, Nord, Pier 3\n"
        "Note: Key in the harbour; ask\nAda",
        "Name: Bo",
    ]
    assert found.lost == {LossKind.PICTURE: 1}


def test_calendars(tmp_path: Path) -> None:
    calendar = (
        "BEGIN:VCALENDAR\nPRODID:never\nBEGIN:VTIMEZONE\nTZID:Europe/Berlin\nBEGIN:STANDARD\nDTSTART:19701025T030000\nEND:STANDARD\n"
        "END:VTIMEZONE\nBEGIN:VEVENT\nUID:never\nDTSTART;TZID=Europe/Berlin:20260305T090000\nSUMMARY:Tide ta\n\tlk\n"
        'ATTENDEE;CN="Ada: pilot";RSVP=TRUE:mailto:ada@port.example\nBEGIN:VALARM\nTRIGGER:-PT15M\nEND:VALARM\nEND:VEVENT\n'
        "BEGIN:VTODO\nSUMMARY:Paint the boat\nEND:VTODO\nEND:VCALENDAR\n"
    )
    assert read_bytes(tmp_path, "a.ics", calendar).texts == [
        "Start: 2026-03-05 09:00 Europe/Berlin\nSummary: Tide talk\nAttendee: Ada: pilot <ada@port.example>",
        "Summary: Paint the boat",
    ]


def test_files_with_the_ending_of_a_calendar_that_are_none_are_text(tmp_path: Path) -> None:
    lines = [f"chr1\t{place}\trs{place}\tA\tG" for place in range(1200)]
    found = read_bytes(tmp_path, "a.vcf", "\n".join(["##fileformat=VCFv4.2", *lines]))
    assert "\n".join(found.texts).split("\n") == ["##fileformat=VCFv4.2", *lines]
    assert len(found.texts) > 1  # it is not kept until an event ends

"""Tables and records: headers, odd shapes, and cells beyond the usual limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.parse import kinds, parse
from pipeline.parse.tables import rows
from pipeline.types import Element, ElementKind
from tests import documents as d


def read(folder: Path, content: str | bytes, media_type: str) -> list[Element]:
    path = folder / "a"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(parse(path, "a", media_type).elements)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter: str, tmp_path: Path) -> None:
    found = read(tmp_path, d.csv(delimiter), kinds.CSV)
    assert [(e.header, e.text) for e in found] == [(" | ".join(d.HEADER), " | ".join(row)) for row in d.ROWS]


def test_quotes_nuls_and_line_ends_in_cells(tmp_path: Path) -> None:
    found = read(tmp_path, 'Name,Text\r\n"a, b","two\nlines"\r\nc\0d,"say ""hi"""\r\n', kinds.CSV)
    assert [e.text for e in found] == ["a, b | two lines", 'cd | say "hi"']


def test_a_cell_of_twelve_megabytes_is_kept(tmp_path: Path) -> None:
    cell = "word " * 2_500_000
    found = read(tmp_path, f'name,text\na,"{cell}"\nb,last\n', kinds.CSV)
    assert sum(e.text.count("word") for e in found) == 2_500_000
    assert found[-1].text == "b | last"


def test_tables_without_header_and_with_header_alone(tmp_path: Path) -> None:
    assert [(e.header, e.text) for e in read(tmp_path, "1,2\n3,4\n", kinds.CSV)] == [("", "1 | 2"), ("", "3 | 4")]
    assert [e.text for e in read(tmp_path, "name,size\n", kinds.CSV)] == ["name | size"]
    assert [(e.header, e.text) for e in read(tmp_path, "only\ncells\n", kinds.CSV)] == [("only", "cells")]


@given(st.lists(st.lists(st.sampled_from(["", "a", "b c", "12", "x"]), max_size=4), max_size=15))
def test_no_cell_is_lost(table: list[list[str]]) -> None:
    found = list(rows(table))
    seen = " ".join([*(e.text for e in found), *{e.header for e in found}]).replace("|", " ").split()
    assert sorted(seen) == sorted(" ".join(cell for row in table for cell in row).split())


def test_workbook(tmp_path: Path) -> None:
    path = d.write(tmp_path, "xlsx")
    found = list(parse(path, "fees.xlsx", kinds.XLSX).elements)
    assert [(e.kind, e.page, e.text) for e in found] == [
        (ElementKind.HEADING, 1, "Fees"), (ElementKind.PARAGRAPH, 1, "Fees of the harbour"),
        (ElementKind.TABLE_ROW, 1, "North 1 | 12 m | 40"), (ElementKind.TABLE_ROW, 1, "South 7 | 18 m | 65"),
        (ElementKind.HEADING, 2, "Numbers"), (ElementKind.TABLE_ROW, 2, "2024 | 318"),
    ]  # fmt: skip


def test_a_cell_at_the_far_corner_of_a_sheet(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active["A1"] = "near"
    book.active["ZZ20000"] = "far"
    path = tmp_path / "a.xlsx"
    book.save(str(path))
    assert [e.text for e in parse(path, "a.xlsx", kinds.XLSX).elements][1:] == ["near", "far"]


def test_json_records(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        json.dumps({"title": "Port", "log": [{"day": 1, "text": d.SENTENCE}, {"day": 2}], "deep": {"a": {"b": [1, 2]}}}),
        kinds.JSON,
    )
    assert [e.text for e in found] == ["title: Port", f"log.day: 1\nlog.text: {d.SENTENCE}", "log.day: 2", "deep.a.b: 1, 2"]
    assert parse(tmp_path / "a", "a", kinds.JSON).title == "Port"


def test_long_records_are_split_between_lines(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps([{f"key{i}": d.SENTENCE for i in range(200)}]), kinds.JSON)
    assert len(found) > 4
    assert sum(e.text.count(d.SENTENCE) for e in found) == 200


@pytest.mark.parametrize("content", ['{"a": 1, // comment\n "b": "kept"}', '{"a": "cut off and kept', "[" * 100_000 + '"kept"'])
def test_what_is_no_json_comes_as_text(content: str, tmp_path: Path) -> None:
    found = read(tmp_path, content, kinds.JSON)
    assert "kept" in "".join(e.text for e in found)
    assert found[0].kind is ElementKind.CODE


def test_json_lines_survive_a_bad_line_and_deep_ones(tmp_path: Path) -> None:
    deep = "[" * 900 + '"inner"' + "]" * 900
    found = read(tmp_path, f'{{"a": "one"}}\nnot json\n{deep}\n{"[" * 100_000}\n{{"a": "two"}}\n', kinds.JSON_LINES)
    assert [e.text for e in found[:3]] == ["a: one", "not json", "inner"]
    assert found[-1].text == "a: two"


def test_json_lines_named_json(tmp_path: Path) -> None:
    assert [e.text for e in read(tmp_path, '{"a": 1}\n{"a": 2}\n', kinds.JSON)] == ["a: 1", "a: 2"]

"""Every format, from a real file through the gate and the parser."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import CONTAINERS, MEDIA_TYPES, kinds, parse, preload
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Element, ElementKind, Reason
from tests import documents as d

MEDIA = {
    "txt": kinds.PLAIN, "md": kinds.MARKDOWN, "rst": kinds.RST, "html": kinds.HTML, "py": kinds.SOURCE, "csv": kinds.CSV,
    "tsv": kinds.TSV, "json": kinds.JSON, "jsonl": kinds.JSON_LINES, "pdf": kinds.PDF, "docx": kinds.DOCX, "pptx": kinds.PPTX,
    "xlsx": kinds.XLSX, "eml": kinds.EML, "msg": kinds.MSG, "xml": kinds.XML, "svg": kinds.SVG, "ipynb": kinds.NOTEBOOK,
    "vtt": kinds.SUBTITLES, "po": kinds.CATALOG, "tex": kinds.LATEX, "org": kinds.ORG, "adoc": kinds.ASCIIDOC,
    "ics": kinds.CALENDAR, "vcf": kinds.CARDS,
    "epub": kinds.EPUB, "odt": kinds.ODT, "odp": kinds.ODP, "ods": kinds.ODS, "xls": kinds.XLS, "rtf": kinds.RTF,
}  # fmt: skip
WITH_SECTIONS = ("md", "rst", "html", "pdf", "docx", "pptx", "xml", "org", "epub", "odt", "odp", "rtf")
WITH_ROWS = ("md", "html", "csv", "tsv", "docx", "xlsx", "xls", "ods", "epub", "odt")
WITH_PAGES = ("pdf", "pptx", "odp", "xlsx", "xls", "ods")
#: Formats that need a program, with tests of their own.
BY_PROGRAM = {kinds.DOC, kinds.PPT, kinds.DJVU}
WITH_OFFSETS = ("txt", "md", "rst", "py")


def read(path: Path) -> tuple[str, list[Element]]:
    parsed = parse(path, path.name, inspect(path, path.name, Limits()))
    return parsed.title, list(parsed.elements)


def of_kind(elements: list[Element], kind: ElementKind) -> list[str]:
    return [e.text for e in elements if e.kind is kind]


def test_every_media_type_has_a_sample() -> None:
    assert set(MEDIA.values()) == MEDIA_TYPES - CONTAINERS - kinds.IMAGES - BY_PROGRAM
    assert set(MEDIA) == set(d.WRITERS)


@pytest.mark.parametrize("kind", d.WRITERS)
def test_gate_tells_the_type_by_content_or_name(kind: str, tmp_path: Path) -> None:
    path = d.write(tmp_path, kind)
    assert inspect(path, path.name, Limits()) == MEDIA[kind]


@pytest.mark.parametrize("kind", ["pdf", "docx", "pptx", "xlsx", "epub", "odt", "odp", "ods", "xls", "rtf", "msg", "html"])
def test_gate_needs_no_name_for_these(kind: str, tmp_path: Path) -> None:
    assert inspect(d.write(tmp_path, kind, "unnamed"), "unnamed", Limits()) == MEDIA[kind]
    assert inspect(d.write(tmp_path, kind, "wrong.dat"), "wrong.dat", Limits()) == MEDIA[kind]


@pytest.mark.parametrize("kind", d.WRITERS)
def test_text_comes_out_clean(kind: str, tmp_path: Path) -> None:
    title, elements = read(d.write(tmp_path, kind))
    text = "\n".join(f"{e.header}\n{e.text}" for e in elements)
    for wanted in (*d.HEADER, *d.ROWS[1]) if kind in ("csv", "tsv", "xlsx", "xls", "ods") else (d.SENTENCE,):
        assert wanted in text
    assert title
    assert all(e.text.strip() and "\0" not in e.text for e in elements)
    assert all((e.level > 0) == (e.kind is ElementKind.HEADING) for e in elements)


@pytest.mark.parametrize("kind", WITH_SECTIONS)
def test_headings_have_levels(kind: str, tmp_path: Path) -> None:
    title, elements = read(d.write(tmp_path, kind))
    levels = {e.text: e.level for e in elements if e.kind is ElementKind.HEADING}
    assert title.startswith(d.TITLE)
    assert levels[d.TITLE] == 1
    assert levels[d.SECTION] == (1 if kind in ("pptx", "odp") else 2)


@pytest.mark.parametrize("kind", WITH_ROWS)
def test_rows_carry_their_header(kind: str, tmp_path: Path) -> None:
    _, elements = read(d.write(tmp_path, kind))
    rows = [(e.header, e.text) for e in elements if e.kind is ElementKind.TABLE_ROW]
    assert rows[:2] == [(" | ".join(d.HEADER), " | ".join(row)) for row in d.ROWS]


@pytest.mark.parametrize("kind", WITH_PAGES)
def test_pages_are_numbered_from_one(kind: str, tmp_path: Path) -> None:
    _, elements = read(d.write(tmp_path, kind))
    assert [e.page for e in elements] == sorted(e.page or 0 for e in elements)
    assert {e.page for e in elements} == {1, 2}


@pytest.mark.parametrize("kind", WITH_OFFSETS)
def test_offsets_point_at_the_text(kind: str, tmp_path: Path) -> None:
    path = d.write(tmp_path, kind)
    source = path.read_text(encoding="utf-8")
    spans = [(e.char_start, e.char_end, e.text) for e in read(path)[1] if e.char_start is not None]
    assert len(spans) > 2
    assert all(word in source[start:end] for start, end, text in spans for word in re.findall(r"\w+", text))
    assert [s for s, _, _ in spans] == sorted(s for s, _, _ in spans)


@pytest.mark.parametrize("kind", ["md", "html", "epub", "docx", "odt", "rtf"])
def test_lists_and_code(kind: str, tmp_path: Path) -> None:
    _, elements = read(d.write(tmp_path, kind))
    assert tuple(of_kind(elements, ElementKind.LIST_ITEM)) == d.ITEMS
    if kind != "docx":
        assert of_kind(elements, ElementKind.CODE) == [d.CODE]


def test_a_media_type_without_a_parser_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(d.write(tmp_path, "txt"), "x", "image/gif")
    assert caught.value.reason is Reason.UNSUPPORTED


def test_library_errors_become_document_errors(tmp_path: Path) -> None:
    broken = tmp_path / "a.docx"
    broken.write_bytes(d.zip_of({"[Content_Types].xml": b"<nothing/>", "word/document.xml": b"<w"}))
    for media_type in (kinds.DOCX, kinds.XLSX, kinds.XLS, kinds.ODS, kinds.ODP, kinds.ODT, kinds.MSG, kinds.EPUB, kinds.PDF):
        with pytest.raises(DocumentError) as caught:
            list(parse(broken, "a.docx", media_type).elements)
        assert caught.value.reason is Reason.CORRUPT
    with pytest.raises(DocumentError) as caught:
        parse(tmp_path / "gone", "gone", kinds.PLAIN)
    assert caught.value.reason is Reason.UNREADABLE


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, pipeline.parse, pipeline.parse.gate\n"
        "heavy = {'unstructured', 'lxml', 'pypdfium2', 'markdown_it', 'chardet', 'olefile', 'spacy'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_preload_imports_what_the_parsers_need() -> None:
    code = (
        "import sys, pipeline.parse\nfrom pipeline.parse import kinds\n"
        "pipeline.parse.preload([kinds.PDF, kinds.MARKDOWN])\n"
        "sys.exit(0 if {'pypdfium2', 'markdown_it'} <= set(sys.modules) and 'unstructured' not in sys.modules else 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    preload(MEDIA_TYPES)
    assert "pipeline.parse.ooxml.word" in sys.modules

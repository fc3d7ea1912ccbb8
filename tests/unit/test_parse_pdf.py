"""PDF: paragraphs out of lines, and files that must not count as success."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds, parse
from pipeline.types import Element, ElementKind, Reason
from tests import documents as d


def read(path: Path) -> list[Element]:
    return list(parse(path, path.name, kinds.PDF).elements)


def refusal(path: Path) -> Reason:
    with pytest.raises(DocumentError) as caught:
        read(path)
    return caught.value.reason


def drawn(path: Path, pages: list[list[tuple[float, float, float, str]]]) -> Path:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(path))
    for page in pages:
        for x, y, size, text in page:
            sheet.setFont("Helvetica", size)
            sheet.drawString(x, y, text)
        sheet.showPage()
    sheet.save()
    return path


def test_paragraphs_pages_and_hyphens(tmp_path: Path) -> None:
    elements = read(d.write(tmp_path, "pdf"))
    assert elements[1].text.startswith(f"{d.SENTENCE} {d.SECOND} The harbour master")
    assert "\n" not in elements[1].text
    assert elements[2] == Element(d.SECOND, page=1)
    assert elements[-1] == Element("Ropes of the waterproof kind are doubled.", page=2)


def test_lines_lists_numbers_and_leaders(tmp_path: Path) -> None:
    page: list[tuple[float, float, float, str]] = [
        (72, 780, 20.0, "A chapter"),
        (72, 740, 10.0, "First line of a paragraph that"),
        (72, 728, 10.0, "goes on in the next line."),
        (72, 704, 10.0, "A new paragraph after a gap that is"),
        (72, 692, 10.0, "as wide as the page and more than that."),
        (72, 668, 10.0, "- an item"),
        (72, 656, 10.0, "- another"),
        (72, 630, 10.0, "1.2 Section . . . . . . . . . . . 17"),
        (300, 30, 10.0, "4"),
    ]
    found = read(drawn(tmp_path / "a.pdf", [page]))
    assert [(e.kind, e.text) for e in found] == [
        (ElementKind.HEADING, "A chapter"),
        (ElementKind.PARAGRAPH, "First line of a paragraph that goes on in the next line."),
        (ElementKind.PARAGRAPH, "A new paragraph after a gap that is as wide as the page and more than that."),
        (ElementKind.LIST_ITEM, "- an item"),
        (ElementKind.LIST_ITEM, "- another"),
        (ElementKind.PARAGRAPH, "1.2 Section … 17"),
    ]


def test_title_from_metadata_where_no_type_is_larger(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    sheet.setTitle("Declared title")
    sheet.drawString(72, 700, "All of the text has one size here.")
    sheet.save()
    parsed = parse(tmp_path / "a.pdf", "a.pdf", kinds.PDF)
    assert parsed.title == "Declared title"
    assert [e.text for e in parsed.elements] == ["All of the text has one size here."]


def test_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    d.pdf(path, password="secret")
    assert refusal(path) is Reason.ENCRYPTED


def test_scanned_needs_ocr(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    d.pdf(path, picture_only=True)
    assert refusal(path) is Reason.NEEDS_OCR


def test_empty_pages_have_no_text(tmp_path: Path) -> None:
    assert refusal(drawn(tmp_path / "a.pdf", [[], []])) is Reason.EMPTY_TEXT


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_is_corrupt(keep: float, tmp_path: Path) -> None:
    data = d.write(tmp_path, "pdf").read_bytes()
    path = tmp_path / "cut.pdf"
    path.write_bytes(data[: int(len(data) * keep)])
    assert refusal(path) is Reason.CORRUPT


def test_garbage_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.4\n" + bytes(range(256)) * 20 + b"\n%%EOF")
    assert refusal(path) is Reason.CORRUPT


def test_many_pages_come_one_by_one(tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.pdf", [[(72, 700, 10.0, f"This is the text of page {n}.")] for n in range(1, 301)])
    elements = parse(path, "a.pdf", kinds.PDF).elements
    assert next(elements).page == 1
    assert [e.page for e in elements] == list(range(2, 301))

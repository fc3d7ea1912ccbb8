"""PDF: paragraphs out of lines, and files that must not count as success."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds, parse
from pipeline.types import Element, ElementKind, LossKind, Reason
from tests import documents as d
from tests.reading import read as read_whole


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
        (ElementKind.PARAGRAPH, "4"),  # what one page says says nothing of its being a page number
    ]


@pytest.mark.parametrize("numbers", [("4", "5", "6"), ("- 1 -", "- 2 -", "- 3 -"), ("iii", "iv", "v")])
def test_numbers_that_count_with_the_pages_are_left_out(numbers: tuple[str, ...], tmp_path: Path) -> None:
    pages = [[(72.0, 700.0, 10.0, f"Words of the page {at}."), (300.0, 30.0, 10.0, text)] for at, text in enumerate(numbers)]
    assert [e.text for e in read(drawn(tmp_path / "a.pdf", pages))] == [f"Words of the page {at}." for at in range(3)]


def test_numbers_that_do_not_count_are_text(tmp_path: Path) -> None:
    amounts = ("48213", "1984", "mill", "civil", "12")
    pages = [[(72.0, 700.0, 10.0, f"Total of the page {at}:"), (72.0, 600.0, 10.0, text)] for at, text in enumerate(amounts)]
    found = " ".join(e.text for e in read(drawn(tmp_path / "a.pdf", pages)))
    assert all(amount in found for amount in amounts)


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


LEFT = [
    "The archive room stays locked at",
    "night. Whoever needs a file asks",
    "the porter, who notes the name and",
    "the hour. Boxes may not leave the",
    "building without a form and the",
    "signature of the head clerk.",
]
RIGHT = [
    "The reading room opens at nine and",
    "bags and coats are left in lockers",
    "beside the stairs. Pencils are fine",
    "while ink is not, and pictures are",
    "taken only with the pass that the",
    "desk hands out on request.",
]


def two_columns(*, above: str = "", below: str = "") -> list[tuple[float, float, float, str]]:
    page = [
        (x, 700.0 - 14 * n, 10.0, line) for n, (a, b) in enumerate(zip(LEFT, RIGHT, strict=True)) for x, line in ((72, a), (310, b))
    ]
    return [*([(72.0, 730.0, 10.0, above)] if above else []), *page, *([(72.0, 580.0, 10.0, below)] if below else [])]


@pytest.mark.parametrize("framed", [False, True])
def test_columns_are_read_one_after_the_other(framed: bool, tmp_path: Path) -> None:
    across = "A sentence above goes across both of the columns of this page, from edge to edge of the paper."
    under = "A sentence below goes across both of the columns of this page, from edge to edge of the paper."
    page = two_columns(above=across, below=under) if framed else two_columns()
    text = " ".join(e.text for e in read(drawn(tmp_path / "a.pdf", [page])))
    expected = [*([across] if framed else []), " ".join(LEFT), " ".join(RIGHT), *([under] if framed else [])]
    assert [text.index(part) for part in expected] == sorted(text.index(part) for part in expected)


def test_a_table_of_two_columns_is_read_by_row(tmp_path: Path) -> None:
    rows = [("Berth", "Fee"), ("North 1", "40"), ("South 7", "65"), ("East 2", "70"), ("West 4", "20"), ("Dry dock", "900")]
    page = [(x, 700.0 - 20 * n, 10.0, text) for n, row in enumerate(rows) for x, text in zip((72.0, 330.0), row, strict=True)]
    found = read(drawn(tmp_path / "a.pdf", [page]))
    assert [(e.kind, e.header, e.text) for e in found] == [
        (ElementKind.TABLE_ROW, "Berth | Fee", f"{name} | {fee}") for name, fee in rows[1:]
    ]


def test_filled_in_forms(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    sheet.drawString(72, 740, "Application for a berth of the harbour")
    sheet.acroForm.textfield(name="ship", tooltip="Name of the ship", value="Ada Lovelace", x=72, y=700)
    sheet.acroForm.textfield(name="empty", value="", x=72, y=660)
    sheet.acroForm.checkbox(name="insured", tooltip="Insured", checked=True, x=72, y=620)
    sheet.acroForm.checkbox(name="new", tooltip="New ship", checked=False, x=72, y=580)
    sheet.acroForm.choice(name="quay", value="North", options=["North", "South"], x=72, y=540)
    sheet.save()
    texts = [e.text for e in read(tmp_path / "a.pdf")]
    assert {"Name of the ship: Ada Lovelace", "Insured: Yes", "quay: North"} <= set(texts)
    assert not any("empty" in text or "New ship" in text for text in texts)


def test_scanned_pages_among_others_are_losses(tmp_path: Path) -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"))
    for number in range(1, 7):
        if number in (2, 3, 4, 6):
            sheet.drawImage(ImageReader(Image.new("RGB", (60, 80), (90, 90, 120))), 0, 0, 590, 840)
        else:
            sheet.drawString(72, 700, f"Words of page {number} can be read by everybody.")
        sheet.showPage()
    sheet.save()
    found = read_whole(tmp_path / "a.pdf")
    assert found.texts == [f"Words of page {number} can be read by everybody." for number in (1, 5)]
    assert [(loss.kind, loss.place) for loss in found.losses] == [(LossKind.PAGE_WITHOUT_TEXT, f"page {n}") for n in (2, 3, 4, 6)]

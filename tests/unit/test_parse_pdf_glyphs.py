"""PDF: the words of a page's text, and the places of their characters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen import canvas

from pipeline.parse.pdf.boxes import FIRST_BOXES, Boxes
from pipeline.parse.pdf.fonts import FIRST_CHARS, Fonts
from pipeline.parse.pdf.glyphs import WORD, places_of_words
from pipeline.parse.pdf.opened import FIRST_CHARS as MOST_CHARS
from pipeline.parse.pdf.opened import Opener
from pipeline.parse.pdf.quick import Address, address


@given(st.text(alphabet="ab \r\n\ufffe\t\u3000\xa0\ue000"))
def test_words_begin_and_end_where_the_pattern_has_them(text: str) -> None:
    spans = [found.span() for found in WORD.finditer(text)]
    assert places_of_words(text) == ([start for start, _ in spans], [end - 1 for _, end in spans])


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Address]:
    """The text page of "mill", and of "rope" below it, which is bold, fixed and turned."""
    path = tmp_path / "one.pdf"
    sheet: Any = canvas.Canvas(str(path))
    sheet.drawString(60, 700, "mill")
    sheet.setFont("Courier-Bold", 8)
    sheet.translate(100, 100)
    sheet.rotate(90)
    sheet.scale(2, 2)
    sheet.drawString(0, 0, "rope")
    sheet.save()
    document = pdfium.PdfDocument(path)
    textpage = document[0].get_textpage()
    yield address(textpage.raw)
    document.close()


def test_a_character_without_a_place_has_not_that_of_another_one(page: Address) -> None:
    boxes = Boxes()
    assert min(boxes.of(page, 0, 3).lefts) > 59
    assert boxes.of(page, 0, 99).lefts == [boxes.of(page, 0).lefts[0], 0.0]


def test_there_is_room_for_any_number_of_characters(page: Address) -> None:
    boxes = Boxes()
    (left,) = boxes.of(page, 2).lefts
    assert boxes.of(page, *[2] * 3 * FIRST_BOXES).lefts == [left] * 3 * FIRST_BOXES


def test_words_from_right_to_left_have_their_outer_sides(page: Address) -> None:
    boxes = Boxes()
    first, last = boxes.of(page, 0), boxes.of(page, 3)
    wide = boxes.of_wide_words(page, [3], [0])
    assert (wide.lefts, wide.rights) == (first.lefts, last.rights)
    assert boxes.of_words(page, [0], [3]) == wide


def test_type_is_told_of_many_characters_at_once(page: Address) -> None:
    fonts = Fonts()
    rope = len("mill\r\n")
    plain, bold = (False, False, False), (True, True, False)
    assert fonts.faces(page, [0, rope]) == [plain, bold]
    assert fonts.faces(page, [rope, 0] * FIRST_CHARS) == [bold, plain] * FIRST_CHARS
    assert fonts.sizes(page, [0, rope]) == [12.0, 8.0]
    assert fonts.turns(page, [0, rope] * FIRST_CHARS) == [(0, 1.0), (90, 2.0)] * FIRST_CHARS


def test_a_character_without_type_has_not_that_of_another_one(page: Address) -> None:
    fonts = Fonts()
    assert fonts.faces(page, [6]) == [(True, True, False)]
    assert fonts.faces(page, [99]) == [(False, False, False)]
    assert fonts.turns(page, [99]) == [(0, 1.0)]


@pytest.mark.parametrize("line", ["", "the mill at the river", "ein Müller – 水車"])
@pytest.mark.parametrize("count", [1, 2 * MOST_CHARS // 20])
def test_the_text_of_a_page_is_that_of_pypdfium2(line: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "one.pdf"
    sheet: Any = canvas.Canvas(str(path))
    text = sheet.beginText(60, 700)
    for _ in range(count):
        text.textLine(line)
    sheet.drawText(text)
    sheet.save()
    document = pdfium.PdfDocument(path)
    opener = Opener(document)
    for _ in range(2):  # in the same memory
        with opener.open(1) as page:
            assert page.text == document[0].get_textpage().get_text_range()
            assert len(page.text) <= page.count
    document.close()


def test_a_page_that_does_not_exist_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "one.pdf"
    sheet: Any = canvas.Canvas(str(path))
    sheet.drawString(60, 700, "mill")
    sheet.save()
    document = pdfium.PdfDocument(path)
    with pytest.raises(pdfium.PdfiumError), Opener(document).open(9):
        pass
    document.close()

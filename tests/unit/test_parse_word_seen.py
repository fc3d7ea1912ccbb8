"""Word files: text that Word shows in unusual places, and text that it does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ooxml import NAMES, para, row, word
from tests.reading import read_bytes


def alternatives(choice: str, fallback: str) -> str:
    return (
        f"<mc:AlternateContent><mc:Choice Requires='wps'>{choice}</mc:Choice><mc:Fallback>{fallback}</mc:Fallback>"
        "</mc:AlternateContent>"
    )


def ended(text: str) -> str:
    """A paragraph whose end is deleted."""
    return para(text, "<w:rPr><w:del w:id='1' w:author='a'/></w:rPr>")


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (alternatives(para("Chosen."), para("Other.")) + para("End."), ["Chosen.", "End."]),
        (ended("The first half ") + ended("of a ") + para("sentence."), ["The first half of a sentence."]),
        (
            ended("Before.") + f"<w:tbl>{row('Attic', '310')}{row('Cellar', '95')}</w:tbl>",
            ["Before.", "Attic | 310", "Cellar | 95"],
        ),
        (ended("The last one."), ["The last one."]),
        (ended("Before.") + "<m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath>", ["Before.", "x=1"]),
        (
            f"<w:tbl>{row('<w:tc>' + ended('In a cell') + '</w:tc>', 'a')}{row('b', 'c')}</w:tbl>",
            ["b | c"],
        ),
        ("<w:p><w:r><w:t>Seen.</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t> Hidden.</w:t></w:r></w:p>", ["Seen."]),
        ("<w:p><w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>Seen.</w:t></w:r></w:p>", ["Seen."]),
        ("<w:p><w:r><w:rPr><w:vanish w:val='off'/></w:rPr><w:t>Seen.</w:t></w:r></w:p>", ["Seen."]),
        ("<w:p><w:r><w:t>A sign \uf0e8 of an unknown font</w:t></w:r></w:p>", ["A sign \uf0e8 of an unknown font"]),
        ("<w:p><w:r><w:rPr><w:rFonts w:ascii='Wingdings'/></w:rPr><w:t>\uf0fc done</w:t></w:r></w:p>", ["• done"]),
        (
            "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText>XE</w:instrText></w:r>"
            "<w:r><w:rPr><w:vanish/></w:rPr><w:fldChar w:fldCharType='end'/></w:r><w:r><w:t>After an entry.</w:t></w:r></w:p>",
            ["After an entry."],
        ),
        (
            "<w:p><w:r><w:rPr><w:rFonts w:ascii='Symbol' w:hAnsi='Symbol'/></w:rPr><w:t>\uf061\uf062</w:t></w:r>"
            "<w:r><w:t>-rays</w:t></w:r></w:p>",
            ["αβ-rays"],
        ),
        (
            "<w:p><w:r><w:drawing><wp:inline><a:graphic><a:graphicData uri='x'><a:sp><a:txSp><a:txBody><a:p><a:r><a:t>On a canvas."
            "</a:t></a:r></a:p></a:txBody></a:txSp></a:sp></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>",
            ["On a canvas."],
        ),
        ("<w:p><m:oMath><m:r><m:t>𝑣𝐷𝜌=𝟑ℎ</m:t></m:r></m:oMath></w:p>", ["vDρ=3h"]),
    ],
    ids=[
        "block",
        "ends",
        "table",
        "last",
        "equation",
        "cell",
        "hidden",
        "not hidden",
        "off",
        "unknown font",
        "wingdings",
        "field",
        "symbols",
        "canvas",
        "letters",
    ],
)
def test_what_word_shows(body: str, texts: list[str], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.docx", word(body)).texts == texts


def test_the_header_of_a_table_in_a_page_header(tmp_path: Path) -> None:
    table = f"<w:tbl>{row('Company', 'Number')}{row('Mill', 'HD-17')}</w:tbl>"
    found = read_bytes(tmp_path, "a.docx", word(para("Body."), {"h.xml": ("header", f"<w:hdr {NAMES}>{table}</w:hdr>")}))
    assert found.texts == ["Body.", "Company | Number", "Mill | HD-17"]


def test_headers_with_deleted_ends_stay_apart(tmp_path: Path) -> None:
    headers = {f"h{n}.xml": ("header", f"<w:hdr {NAMES}>{ended(text)}</w:hdr>") for n, text in enumerate(("Mill", "Harbour"))}
    assert read_bytes(tmp_path, "a.docx", word(para("Body."), headers)).texts == ["Body.", "Mill", "Harbour"]


def test_a_saved_page_inside_a_document(tmp_path: Path) -> None:
    page = (
        "MIME-Version: 1.0\nContent-Type: multipart/related; boundary=B\n\n--B\nContent-Type: text/html; charset=utf-8\n"
        "Content-Transfer-Encoding: quoted-printable\n\n<html><body><p>The size is gr=C3=B6=C3=9Fer.</p></body></html>\n--B--\n"
    )
    found = read_bytes(tmp_path, "a.docx", word(ended("Body.") + "<w:altChunk r:id='rId1'/>", {"c.mht": ("aFChunk", page)}))
    assert found.texts == ["Body.", "The size is größer."]

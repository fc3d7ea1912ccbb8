"""RTF files: what each construction says, in its place, in the encoding of its font, and what is named as a loss."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from pipeline.parse.rtf import fonts
from pipeline.types import ElementKind, LossKind
from tests.rtf import FONTS, PICTURE, of


def escaped(text: str, codec: str) -> str:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(codec))


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        (128, "cp932", "表示された文章ソ"),
        (129, "cp949", "한국어 문서"),
        (134, "cp936", "简体中文文件"),
        (136, "cp950", "繁體中文許功蓋"),
        (161, "cp1253", "Ελληνικά"),
        (162, "cp1254", "Türkçe ğış"),
        (177, "cp1255", "עברית"),
        (178, "cp1256", "العربية"),
        (186, "cp1257", "Lietuvių ąžuolas"),
        (204, "cp1251", "Русский текст"),
        (222, "cp874", "ภาษาไทย"),
        (238, "cp1250", "Příliš žluťoučký"),
        (255, "cp850", "Müller"),
        (77, "mac_roman", "Über"),
    ],
)
def test_bytes_are_in_the_code_page_of_their_font(charset: int, codec: str, text: str, tmp_path: Path) -> None:
    head = rf"\ansi\ansicpg1252\deff0{{\fonttbl{{\f0\fcharset0 Arial;}}{{\f7\fcharset{charset} Arial;}}}}"
    found = of(tmp_path, rf"Caf\'e9 {{\f7 {escaped(text, codec)}}} caf\'e9.\par", head)
    assert found.texts == [f"Café {text} café."]
    assert not found.losses


@pytest.mark.parametrize(
    ("page", "codec", "text"),
    [
        (932, "cp932", "日本語ソ"),
        (936, "cp936", "中文"),
        (949, "cp949", "한국어"),
        (950, "cp950", "許功蓋"),
        (1251, "cp1251", "Текст"),
        (437, "cp437", "Müller"),
        (10000, "mac_roman", "Über"),
        (65001, "utf-8", "naïve Ω"),
    ],
)
def test_the_documents_code_page_counts_where_fonts_name_none(page: int, codec: str, text: str, tmp_path: Path) -> None:
    for table in ("", r"{\fonttbl{\f0 Arial;}}", r"{\fonttbl{\f0\fcharset0 Arial;}}", r"{\fonttbl{\f0\fcharset1 Arial;}}"):
        assert of(tmp_path, escaped(text, codec), rf"\ansi\ansicpg{page}\deff0{table}").texts == [text]


def test_western_fonts_keep_their_code_page_beside_others(tmp_path: Path) -> None:
    head = r"\ansi\ansicpg1251\deff0{\fonttbl{\f0\fcharset204 Arial;}{\f1\fcharset0 Arial;}}"
    assert of(tmp_path, r"\f0 \'d2\f1 \'e9", head).texts == ["Тé"]


@pytest.mark.parametrize(("word", "codec"), [("mac", "mac_roman"), ("pc", "cp437"), ("pca", "cp850"), ("ansi", "cp1252")])
def test_character_sets_of_the_oldest_files(word: str, codec: str, tmp_path: Path) -> None:
    assert of(tmp_path, escaped("Müller Ä", codec), f"\\{word}").texts == ["Müller Ä"]


def test_a_font_table_without_groups(tmp_path: Path) -> None:
    assert of(tmp_path, r"\f1 \'f2", r"\ansi{\fonttbl\f0\fswiss Helvetica;\f1\fcharset204 Arial;}").texts == ["т"]


def test_raw_bytes(tmp_path: Path) -> None:
    assert of(tmp_path, b"caf\xe9 \x96 na\xefve").texts == ["café – naïve"]
    assert of(tmp_path, "café – naïve".encode()).texts == ["café – naïve"]
    assert of(tmp_path, "表ソ能".encode("cp932").replace(b"\\", b"\\\\"), r"\ansi\ansicpg932").texts == ["表ソ能"]


def test_bytes_that_are_no_characters_are_named(tmp_path: Path) -> None:
    found = of(tmp_path, r"\'81 and more")
    assert found.lost == {LossKind.UNDECODABLE_BYTES: 1}
    assert of(tmp_path, r"text \'e9", r"\ansi\ansicpg29001").lost == {LossKind.UNREADABLE_PART: 1}


def test_code_pages_have_codecs() -> None:
    for name in [*fonts._CHARSETS.values(), *fonts._PAGES.values()]:
        codecs.lookup(name)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"\u1058\'3f\u1077?\u1082 ?", "Тек"),
        (r"\uc2\u26085\'93\'fa\u26412\'96\'7b\uc1 .", "日本."),
        (r"{\uc0\u233\u232}\u233?t", "éèét"),
        (r"{\uc2 {\u233??}\u233??x}\u233?y", "ééxéy"),
        (r"\u-10179?\u-8704?", "\U0001f600"),
        (r"{\u-10179\'3f}{\u-8704\'3f} \u56832 ?", "\U0001f600"),
        (r"hi\u-10240? and lo\u-9216?.", "hi and lo."),
        (r"\u128512?", "\U0001f600"),
        (r"\u8211\endash x\u8212\'97y", "–x—y"),
        (r"\uc1\u233{}e", "ée"),
        (r"\u233\bin3 xyz.", "é."),
        (r"a\u-4051?", "a•"),
        (r"\emdash\lquote a\rquote\ldblquote b\rdblquote\bullet\~\_\-c", "—‘a’“b”• -c"),
        (r"\{a\}\\b", r"{a}\b"),
        (r"{\f2 a}\u61537? {\f2 \'b3}", "α• ≥"),
        ("one\\tab two\\line three\r\nfour", "one two threefour"),
    ],
)
def test_characters(body: str, text: str, tmp_path: Path) -> None:
    assert of(tmp_path, body).texts == [text]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (r"a {\v hidden} b\v  also\v0  c", ["a b c"]),
        (r"\v hidden\plain  shown", ["shown"]),
        (r"Rent is {\deleted 90}{\revised 110}", ["Rent is 110"]),
        (r"{\*\unknown{\b words}} kept {\*\pgdsctbl{\header words}}", ["kept"]),
        (r"{\upr{\'3f\'3f}{\*\ud{\u1058?\u1077?}}} x", ["Те x"]),
        (r"{\field{\*\fldinst HYPERLINK {b}}{\fldrslt the {\ul handbook}}}.", ["the handbook."]),
        (r"{\field{\*\fldinst IF {\field{\*\fldinst X}{\fldrslt no}}}{\fldrslt yes}}", ["yes"]),
        (r"{\field{\*\fldinst FORMCHECKBOX {\*\formfield{\fftype1\ffres1\ffdefres0}}}}Done", ["[x] Done"]),
        (r"{\field{\*\fldinst FORMCHECKBOX {\*\formfield{\fftype1\ffres25\ffdefres0}}}}Open", ["[ ] Open"]),
        (r"\bin5 }{\\}x", ["x"]),
        (r"a{\*\bkmkstart b}{\*\bkmkend b}{\xe c}{\tc d} e", ["a e"]),
        ("one\\par two\\\nthree\\sect four", ["one", "two", "three", "four"]),
        (r"{\info{\author A}{\title T}{\doccomm D}}text", ["text"]),
        (r"{\*\moMath{\mf{\mfPr{\mctrlPr\f1}}{\mnum{\mr\mscr0\msty2 a+b}}{\mden{\mr 2}}}}", ["(a+b)/2"]),
        (r"{\*\moMathPara{\*\moMath{\md{\mdPr{\mbegChr [}{\mendChr ]}}{\me{\mr x}}}}}", ["[x]"]),
    ],
)
def test_what_is_text(body: str, texts: list[str], tmp_path: Path) -> None:
    assert of(tmp_path, body).texts == texts


SHEET = (
    r"{\stylesheet{Normal;}{\s1\outlinelevel0 Titel;}{\s2\sbasedon1 Neben;}{\s3\outlinelevel9 heading 3;}{\s4 heading 2;}"
    r"{\s5 List Bullet;}{\s6\sbasedon7 a;}{\s7\sbasedon6 b;}{\s8 HTML Preformatted;}{\*\cs15 heading 1;}{\s9 Title;}}"
)


@pytest.mark.parametrize(
    ("properties", "kind", "level"),
    [
        (r"\outlinelevel0", ElementKind.HEADING, 1),
        (r"\outlinelevel4", ElementKind.HEADING, 5),
        (r"\outlinelevel9", ElementKind.PARAGRAPH, 0),
        (r"\s1", ElementKind.HEADING, 1),
        (r"\s2", ElementKind.HEADING, 1),
        (r"\s2\outlinelevel9", ElementKind.PARAGRAPH, 0),
        (r"\s3", ElementKind.PARAGRAPH, 0),
        (r"\s4", ElementKind.HEADING, 2),
        (r"\s4\pard", ElementKind.PARAGRAPH, 0),
        (r"\s5", ElementKind.LIST_ITEM, 0),
        (r"\s6", ElementKind.PARAGRAPH, 0),
        (r"\s8", ElementKind.CODE, 0),
        (r"\s9", ElementKind.HEADING, 1),
        (r"\cs15", ElementKind.PARAGRAPH, 0),
        (r"\f1", ElementKind.CODE, 0),
    ],
)
def test_roles_of_paragraphs(properties: str, kind: ElementKind, level: int, tmp_path: Path) -> None:
    (found,) = of(tmp_path, rf"{SHEET}\pard\plain{properties} Words\par").elements
    assert (found.text, found.kind, found.level) == ("Words", kind, level)


def test_code_keeps_its_lines_unless_the_whole_document_is_in_its_font(tmp_path: Path) -> None:
    body = r"Text.\par\f1 def f():\line     pass\par"
    assert of(tmp_path, body).of(ElementKind.CODE) == ["def f():\n    pass"]
    assert not of(tmp_path, body, r"\ansi\deff0{\fonttbl{\f0 Courier New;}{\f1 Courier New;}}").of(ElementKind.CODE)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"{\listtext\pard\plain 2.1.\tab}\ls1 Ropes\par", "2.1. Ropes"),
        (r"{\listtext\f2\'b7\tab}\ls1 Ropes\par", "Ropes"),
        (r"{\listtext\f1 o\tab}\ls1 Ropes\par", "Ropes"),
        (r"{\listtext o.\tab}\ls1 Ropes\par", "o. Ropes"),
        (r"{\pntext\pard 3)\tab}{\*\pn\pnlvlbody{\pntxta )}}Ropes\par", "3) Ropes"),
        (r"\pard\li360\fi-360 \bullet\tab Ropes\par", "Ropes"),
        (r"\pard\li360\fi-360 1.\tab Ropes\par", "1. Ropes"),
    ],
)
def test_items_of_lists(body: str, text: str, tmp_path: Path) -> None:
    assert of(tmp_path, body).of(ElementKind.LIST_ITEM) == [text]


def test_headings_keep_their_numbers(tmp_path: Path) -> None:
    (found,) = of(tmp_path, r"{\listtext 1.2\tab}\outlinelevel1 Mooring\par").elements
    assert (found.text, found.kind) == ("1.2 Mooring", ElementKind.HEADING)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (
            r"One{\super\chftn{\footnote\pard\plain {\chftn} Says who.}} word.\par Next.",
            ["One word.", "Footnote: Says who.", "Next."],
        ),
        (r"One{\footnote\ftnalt End.\par More.}\par", ["One", "Endnote: End.", "More."]),
        (
            r"Rent{\*\atnid JS}{\*\atnauthor Jane Smith}\chatn{\*\annotation{\*\atndate 132194672}Too high}.\par",
            ["Rent.", "Comment by Jane Smith, 2026-01-04T05:48: Too high"],
        ),
        (r"{\header Harbour Board\par}{\headerf Harbour Board\par}{\footer {\chpgn} 12\par}Text\par", ["Text", "Harbour Board"]),
        (
            r"{\shp{\*\shpinst\shpleft0{\sp{\sn txflTextFlow}{\sv 0}}{\shptxt Boxed\par}}{\shprslt Boxed}}Text\par",
            ["Text", "Boxed"],
        ),
        (r"{\*\do\dobxcolumn{\dptxbxtext Old box\par}}Text\par", ["Text", "Old box"]),
        (r"{\shp{\*\shpinst{\sp{\sn gtextUNICODE}{\sv Word art}}}}Text\par", ["Text", "Word art"]),
        (r"A{\footnote b {\footnote c}}\par", ["A", "Footnote: b", "Footnote: c"]),
    ],
)
def test_notes_boxes_and_running_texts(body: str, texts: list[str], tmp_path: Path) -> None:
    assert of(tmp_path, body).texts == texts


@pytest.mark.parametrize(
    ("body", "texts", "lost"),
    [
        (rf"a{{\*\shppict{PICTURE}}}{{\nonshppict{PICTURE}}}b", ["ab"], {LossKind.PICTURE: 1}),
        (r"a{\pict\wmetafile8\bin4 }{\{}b", ["ab"], {LossKind.PICTURE: 1}),
        (
            rf"a{{\shp{{\*\shpinst{{\sp{{\sn pib}}{{\sv {PICTURE}}}}}{{\sp{{\sn wzDescription}}{{\sv A map}}}}}}}}",
            ["a", "Picture: A map"],
            {},
        ),
        (r"a{\pict{\*\picprop{\sp{\sn wzDescription}{\sv A map}}}\pngblip 8950}", ["a", "Picture: A map"], {}),
        (
            rf"a{{\object\objemb{{\*\objclass Excel.Sheet.8}}{{\*\objdata 0105}}{{\result {PICTURE}}}}}",
            ["a"],
            {LossKind.EMBEDDED_OBJECT: 1},
        ),
        (r"text \bin900000 more", ["text more"], {LossKind.UNREADABLE_PART: 1}),
    ],
)
def test_losses(body: str, texts: list[str], lost: dict[LossKind, int], tmp_path: Path) -> None:
    found = of(tmp_path, body)
    assert (found.texts, found.lost) == (texts, lost)


def test_title(tmp_path: Path) -> None:
    info = r"{\info{\title From the {\*\x y}properties}}"
    assert of(tmp_path, info + "Text").title == "From the properties"
    assert of(tmp_path, info + r"\outlinelevel0 First heading\par").title == "First heading"
    assert of(tmp_path, "Text").title == "a.rtf"


def test_encapsulated_html(tmp_path: Path) -> None:
    body = (
        r"{\*\htmltag19 <html>}{\*\htmltag50 <body>}\htmlrtf\lang1031\htmlrtf0{\*\htmltag96 <h1>}\htmlrtf {\htmlrtf0 Caf\'e9"
        r"{\*\htmltag104 </h1>}\htmlrtf\par}\htmlrtf0{\*\mhtmltag1 <p>}{\*\htmltag64 <p>}1 "
        r"{\*\htmltag84 &lt;}\htmlrtf <\htmlrtf0  2{\*\htmltag72 </p>}"
        r"{\*\htmltag64 <table><tr><td>a</td><td>}{\field{\*\fldinst X}{\fldrslt b}}{\*\htmltag64 </td></tr></table>}"
    )
    found = of(tmp_path, body, r"\ansi\ansicpg1252\fromhtml1\deff0" + FONTS)
    assert found.texts == ["Café", "1 < 2", "a | b"]
    assert found.elements[0].kind is ElementKind.HEADING

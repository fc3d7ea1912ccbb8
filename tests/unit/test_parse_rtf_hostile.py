"""RTF files that are damaged, large or hostile."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds, parse
from pipeline.parse.parsed import MAX_ELEMENT_CHARS
from pipeline.parse.rtf import reader, tokens
from pipeline.types import LossKind, Reason
from tests.reading import read_bytes
from tests.rtf import PICTURE, of


@pytest.mark.parametrize(
    ("data", "texts", "lost"),
    [
        (b"{\\rtf1 one\\par two", ["one", "two"], 1),
        (b"{\\rtf1 one}} two}\0\0", ["one two"], 0),
        (b"{\\rtf1 one}} {\\*\\themedata two} three \\par}\r\n\xef8\x11$DM\x17", ["one three"], 0),
        (b"\xef\xbb\xbf {\\rtf1 one}{\\rtf1 two}", ["onetwo"], 0),
        (b"{\\rtf1 one {\\*\\x {{ two", ["one"], 1),
        (b"{\\rtf1 one\\", ["one"], 1),
        (b"{\\rtf1 one\\'z", ["onez"], 1),
        (b"{\\rtf1 " + b"{" * 9000 + b"deep" + b"}" * 9000 + b" end}", ["deep end"], 0),
        (b"{\\rtf1 " + b"{\\footnote a" * 50 + b"}" * 50 + b"}", ["Footnote: " * n + "a" for n in range(1, 6)], 0),
    ],
    ids=[
        "cut",
        "closed twice",
        "data behind the end",
        "two",
        "cut in a group",
        "cut in a word",
        "no number",
        "deep",
        "notes in notes",
    ],
)
def test_damaged_files(data: bytes, texts: list[str], lost: int, tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.rtf", data)
    assert found.media_type == kinds.RTF
    if texts[0].startswith("Footnote"):
        assert found.text.count("a") >= 50
    else:
        assert (found.texts, sum(found.lost.values())) == (texts, lost)


def test_windows_do_not_cut_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = rf"{{\*\x {{\bin3 }}}}}}\{{}}}}Fee \u8364? {{\footnote x}}{PICTURE}\'e9\outlinelevel1\bin2 {{{{ words\par" * 9
    whole = of(tmp_path, body)
    monkeypatch.setattr(tokens, "MAX_TOKEN", 40)
    for window in (41, 42, 43, 57, 64):
        monkeypatch.setattr(tokens, "WINDOW", window)
        cut = of(tmp_path, body)
        assert (cut.elements, cut.losses) == (whole.elements, whole.losses)
    assert whole.texts[0] == "Fee € é words"


def test_long_paragraphs_are_cut_between_words_and_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 100)
    monkeypatch.setattr(reader, "MAX_PARAGRAPH_CHARS", 500)
    found = of(tmp_path, "日本語 ".encode() * 1000, r"\ansi\ansicpg65001")
    assert len(found.elements) > 1
    assert " ".join(found.texts) == " ".join(["日本語"] * 1000)
    assert not found.losses


def test_a_large_file_in_bounded_memory(tmp_path: Path) -> None:
    text = b"word " * 100_000 + b"\\par"
    title = b"{\\info{\\title " + b"title " * 20_000 + b"}}"
    unknown = b"{\\*\\x " + b"{\\bin3 }}}}" * 10_000 + b"}"
    picture = b"{\\pict\\pngblip " + b"89504e470d0a1a0a" * 4096 + b"}Caption\\par "
    (tmp_path / "a.rtf").write_bytes(b"{\\rtf1 " + text + title + unknown + picture * 310 + b"}")
    assert (tmp_path / "a.rtf").stat().st_size > 20 << 20
    tracemalloc.start()
    captions = words = 0
    for element in parse(tmp_path / "a.rtf", "a.rtf", kinds.RTF).elements:
        captions += element.text == "Caption"
        words += element.text.count("word")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (captions, words) == (310, 100_000)
    assert peak < 12 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"{" * 90_000,
        b"{\\footnote a" * 9_000,
        b"{\\shp{\\*\\shpinst" * 9_000,
        b"{\\field{\\*\\fldinst HYPERLINK}{\\fldrslt a" * 9_000,
        b"{\\stylesheet" + b"".join(b"{\\s%d\\sbasedon%d A;}" % (at, at + 1) for at in range(9_000)) + b"}" + b"\\s1 a\\s9 b\\par",
        b"\\trowd" + b"".join(b"\\cellx%d" % (at * 100) for at in range(1, 50_000)) + b"a\\cell b\\cell\\row" * 1_000,
        b"".join(b"\\trowd\\cellx500\\cellx%d a\\cell b\\cell\\row" % (at * 100) for at in range(10, 2_000)),
        b"\\itap9 a\\nestcell{\\*\\nesttableprops\\trowd\\cellx900\\nestrow}" * 2_000,
        b"{\\*\\moMath" + b"{\\mf a" * 9_000,
        b"\\bin9999999999 a" * 9_000,
        b"\\" + b"x" * 1_000_000,
        b"\\u" + b"9" * 1_000_000,
        b"\\uc99999 \\u65 ?" * 9_000,
    ],
    ids=[
        "groups",
        "notes",
        "shapes",
        "fields",
        "styles",
        "edges",
        "rows",
        "nested",
        "equation",
        "data",
        "word",
        "number",
        "skipped",
    ],
)
def test_hostile_files_end(body: bytes, tmp_path: Path) -> None:
    found = of(tmp_path, body)
    assert found.media_type == kinds.RTF
    assert all(len(element.text) <= MAX_ELEMENT_CHARS for element in found.elements)


def test_text_of_unclosed_groups_is_kept(tmp_path: Path) -> None:
    body = r"{\field{\*\fldinst HYPERLINK}{\fldrslt{\b a " * 5_000
    found = of(tmp_path, body)
    assert "".join(found.texts).count("a") == 5_000
    assert found.lost == {LossKind.UNREADABLE_PART: 1}


def test_a_file_of_control_words_holds_no_text(tmp_path: Path) -> None:
    assert of(tmp_path, r"\pard\par").texts == []


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(tmp_path / "gone.rtf", "gone.rtf", kinds.RTF)
    assert caught.value.reason is Reason.UNREADABLE

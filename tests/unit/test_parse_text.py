"""Text, Markdown, reStructuredText and source code: offsets, and nothing lost on any input."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.parse import kinds, parse
from pipeline.parse.decode import decode_bytes, detect, read_text
from pipeline.parse.markdown import WINDOW_CHARS, markdown_elements
from pipeline.parse.parsed import MAX_ELEMENT_CHARS, clean, pieces
from pipeline.parse.plain import paragraphs
from pipeline.parse.rst import rst_elements
from pipeline.parse.source import blocks
from pipeline.types import Element, ElementKind
from tests.reading import read_bytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=400)
LINES = st.lists(
    st.sampled_from(
        [
            "",
            "word",
            "# head",
            "- item",
            "  - nested",
            "1. one",
            "> quote",
            ">> deep",
            "```",
            "    code",
            "| a | b |",
            "|---|---|",
            "===",
            "text [link](http://x.example/y)",
            "<div>raw</div>",
            "* * *",
            ".. note:: beware",
            "   inside",
            "Title",
            "-----",
            "::",
            ".. function:: open(file)",
            "+---+---+",
            "===  ===",
            ">>> print(1)",
            "| line",
            "a\tb",
            "\u00a0",
            "…",
        ]
    ),
    max_size=30,
).map("\n".join)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def joined(elements: Iterable[Element]) -> list[str]:
    return words(" ".join(f"{e.header} {e.text}" for e in elements))


@given(TEXTS)
def test_plain_loses_nothing_and_its_spans_are_exact(text: str) -> None:
    elements = list(paragraphs(io.StringIO(text)))
    for e in elements:
        assert clean(text[e.char_start : e.char_end]) == e.text != ""
    assert "".join("".join(e.text for e in elements).split()) == "".join(clean(text).split())
    assert all(a.char_end <= b.char_start for a, b in pairwise(elements))  # type: ignore[operator]


def test_plain_streams_a_line_of_megabytes_in_pieces() -> None:
    text = "word " * 500_000 + "x" * 100_000
    elements = list(paragraphs(io.StringIO(text)))
    assert max(len(e.text) for e in elements) <= MAX_ELEMENT_CHARS
    assert "".join(e.text for e in elements).replace(" ", "") == text.replace(" ", "")
    assert all(text[e.char_start : e.char_end] == e.text for e in elements)
    assert not any(e.text.startswith("ord") for e in elements)


@given(TEXTS, st.integers(1, 50))
def test_pieces_cover_the_text(text: str, limit: int) -> None:
    spans = list(pieces(text, limit))
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(0 < b - a <= limit for a, b in spans)


@given(st.one_of(TEXTS, LINES))
def test_source_keeps_every_word_and_its_spans(text: str) -> None:
    elements = list(blocks(io.StringIO(text)))
    for e in elements:
        assert clean(text[e.char_start : e.char_end], strip=False) == e.text
    assert "".join("".join(e.text for e in elements).split()) == "".join(clean(text).split())


def test_source_blocks_are_definitions() -> None:
    text = "import os\n\n\ndef a():\n    x = 1\n\n    return x\n\n\n@cached\ndef b():\n    pass\nclass C:\n    pass\n"
    found = [e.text for e in blocks(io.StringIO(text))]
    assert found == ["import os", "def a():\n    x = 1\n\n    return x", "@cached\ndef b():\n    pass", "class C:\n    pass"]


@given(LINES)
@settings(max_examples=300)
def test_markdown_loses_no_word(text: str) -> None:
    elements = list(markdown_elements(text))
    found = joined(elements)
    for word in words(text.replace("(http://x.example/y)", "").replace("<div>", " ").replace("</div>", " ")):
        assert word in found or word in ("a", "b")  # a link target may hide in a fence's info line
    for e in elements:
        source = text[e.char_start : e.char_end]
        assert all(word in source for word in words(e.text))


@given(TEXTS)
def test_markdown_takes_any_text(text: str) -> None:
    for e in markdown_elements(text):
        assert e.text.strip()
        assert 0 <= (e.char_start or 0) <= (e.char_end or 0) <= len(text)


@given(st.one_of(TEXTS, LINES))
def test_rst_takes_any_text(text: str) -> None:
    for e in rst_elements(text):
        assert e.text.strip()
        assert e.char_start is None or 0 <= e.char_start <= (e.char_end or 0) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000 + " inner word",
        "> " * 3_000 + "inner word",
        "- " * 3_000 + "inner word",
        "*" * 50_000 + " inner word",
        "`" * 50_000 + "\ninner word",
        "<a" * 30_000 + " inner word",
        "[a](" * 20_000 + " inner word",
        "|" * 20_000 + "\n|-|\n inner word",
        "![" * 30_000 + " inner word",
        "[a]: x\n" * 20_000 + "inner word",
    ],
    ids=["brackets", "quotes", "lists", "stars", "ticks", "tags", "links", "bars", "pictures", "definitions"],
)
def test_hostile_markdown_is_quick_and_keeps_its_text(text: str) -> None:
    start = time.process_time()
    found = " ".join(e.text for e in markdown_elements(text))
    assert time.process_time() - start < 10
    assert "inner word" in found


def test_markdown_in_windows_keeps_headings_and_offsets() -> None:
    section = "## Part {}\n\nSome text of part {}.\n\n```\n# no heading\n\n```\n\n"
    text = "# Top\n\n" + "".join(section.format(i, i) for i in range(WINDOW_CHARS // 25))
    headings = [e for e in markdown_elements(text) if e.kind is ElementKind.HEADING]
    assert len(headings) == WINDOW_CHARS // 25 + 1
    assert all(text[e.char_start : e.char_end].endswith(e.text) for e in headings)


def test_markdown_front_matter_links_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(
        "---\ntitle: 'From the top'\n---\n\n# Head *one*\n\nSee [the manual](http://x.example/y \"t\") and ![alt](p.png).\n\n"
        "<!-- never\n\nshown -->\n\n<h2 align='center'>Raw head</h2>\n\n3. third\n4. fourth\n\n| only | head |\n|---|---|\n"
    )
    parsed = parse(path, "a.md", kinds.MARKDOWN)
    elements = list(parsed.elements)
    assert parsed.title == "From the top"
    texts = [e.text for e in elements]
    assert "See the manual and alt." in texts
    assert "Raw head" in [e.text for e in elements if e.level == 2]
    assert texts[-3:] == ["3. third", "4. fourth", "only | head"]
    assert not any("never" in t or "shown" in t for t in texts)


def test_rst_objects_and_sections() -> None:
    text = (
        "Top\n===\n\n.. comment line\n   more comment\n\n.. _label:\n\n.. class:: Vessel(name)\n"
        "              Vessel(name, size)\n\n"
        "   A :class:`~port.Vessel` with ``size``, see `the log <http://x.example>`_.\n\n"
        "   .. method:: moor()\n\n      Moors it.\n\n"
        "   .. versionadded:: 3.1\n      The *size*.\n\nAfter the class.\n\nSub\n---\n\n.. note:: Mind the tide.\n\n"
        "===  ===\nA    B\n===  ===\none  two\n===  ===\n\n.. code-block:: python\n   :linenos:\n\n   x = 1\n     y\n"
    )
    elements = list(rst_elements(text))
    assert [(e.level, e.text) for e in elements if e.kind is ElementKind.HEADING] == [
        (1, "Top"), (2, "Vessel"), (3, "moor"), (2, "Vessel"), (1, "Top"), (2, "Sub"),
    ]  # fmt: skip
    texts = [e.text for e in elements]
    assert "Vessel(name)\nVessel(name, size)" in texts
    assert "A Vessel with size, see the log." in texts
    assert "New in version 3.1 The *size*." in texts
    assert "Note: Mind the tide." in texts or "Mind the tide." in " ".join(texts)
    assert [(e.header, e.text) for e in elements if e.kind is ElementKind.TABLE_ROW] == [("A | B", "one | two")]
    assert texts[-1] == "x = 1\n  y"
    assert not any("comment" in t or "label" in t for t in texts)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Grüße, naïve café"),
        ("utf-8-sig", "Grüße"),
        ("utf-16", "Grüße an alle"),
        ("utf-16-le", "plain words " * 20),
        ("utf-32", "Grüße"),
        ("cp1252", "Die Straße führt über die Brücke zum größten Haus. " * 4),
        ("cp932", "これは日本語の文章です。港の規則をまとめました。" * 4),
        ("cp1251", "Правила стоянки судов в порту и на рейде. " * 4),
    ],
)
def test_encodings(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert read_text(path) == text
    assert decode_bytes(text.encode(encoding)).removeprefix("\ufeff") == text


def test_damaged_utf8_stays_utf8_and_nuls_go(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("größer ".encode() * 50 + b"\xff bad \0byte\r\n\r\nnext")
    elements = list(parse(path, "a.txt", kinds.PLAIN).elements)
    assert elements[0].text.count("größer") == 50
    assert elements[0].text.endswith("\ufffd bad byte")
    assert elements[1].text == "next"
    assert read_text(path)[elements[1].char_start : elements[1].char_end] == "next"


def test_binary_has_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 40)
    assert detect(path) is None


def test_rst_cleans_a_heading_that_comes_again() -> None:
    text = "Mooring\0 rules\n==============\n\nAbove.\n\n.. function:: moor(ship)\n\n   Moors it.\n\nBelow.\n"
    headings = [e.text for e in rst_elements(text) if e.kind is ElementKind.HEADING]
    assert headings == ["Mooring rules", "moor", "Mooring rules"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("Call `Map<String, Invoice> load(List<Id> ids)` once.", "Call Map<String, Invoice> load(List<Id> ids) once."),
        ("Returns Optional<Customer> or `a && b`.", "Returns Optional<Customer> or a && b."),
        ("One<br>two<br/>three and <b>bold</b>.", "One two three and bold."),
        (r"Set max\_retry\_count to 3\*.", "Set max_retry_count to 3*."),
        ("M&uuml;ller &amp; S&ouml;hne, if a &lt; b.", "Müller & Söhne, if a < b."),
        (
            "See [the article](https://wiki.example/Foo_(bar)) for **more** and _some_ snake_case_name.",
            "See the article for more and some snake_case_name.",
        ),
        ("![plan](data:image/png;base64," + "iVBORw0KGgo" * 500 + ") of the pier", "plan of the pier"),
        ("Use 2*3*4 and a * b.", "Use 2*3*4 and a * b."),
        ("``code with ` inside`` and <https://x.example/a>", "code with ` inside and https://x.example/a"),
        ("Call `handlers[name](event)` and `__init__`, `a*b*c`.", "Call handlers[name](event) and __init__, a*b*c."),
        (
            "un*believ*able, **bold**text, ***both***, **out *in* out** and *a **b** c*",
            "unbelievable, boldtext, both, out in out and a b c",
        ),
        ("**two\nlines** and f(*args, **kwargs) or *.py and *.md", "two\nlines and f(*args, **kwargs) or *.py and *.md"),
        ("**日本語**です", "日本語です"),
        ("one\\\ntwo, shown<!-- never shown --> and a<b && c>d", "one\ntwo, shown and a<b && c>d"),
        ("The <img src='p.png' alt='plan'> and <span title=\"a\">words</span>", "The  plan  and words"),
        ("[one](a 'x') [two](b (y)) [three](<c d.md>) [a [b] c](http://u.example)", "one two three a [b] c"),
        ('See [the guide][g].\n\n[g]: http://x.example "Its title"\n', "See the guide."),
    ],
)
def test_inline_markdown(source: str, told: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.md", source).texts == [told]


def test_html_inside_markdown(tmp_path: Path) -> None:
    source = (
        "# Locks\n\n<table><tr><th>Door</th><th>Key</th></tr><tr><td>North&nbsp;gate</td><td>K&ouml;nig 71</td></tr></table>\n\n"
        "<details>\n<summary>More</summary>\n\nHidden *part*.\n\n</details>\n\n````md\n```py\ninner\n```\n````\n\nAfter.\n"
    )
    found = read_bytes(tmp_path, "a.md", source)
    assert [(e.header, e.text) for e in found.elements] == [
        ("", "Locks"),
        ("Door | Key", "North gate | König 71"),
        ("", "More"),
        ("", "Hidden part."),
        ("", "```py\ninner\n```"),
        ("", "After."),
    ]


@pytest.mark.parametrize(
    "front", ['---\ntitle: "Guide: one"\nAuthor: Ada\ntags: [a, b]\n---\n', "+++\ntitle = 'Guide: one'\nauthor = \"Ada\"\n+++\n"]
)
def test_front_matter_is_kept_as_fields(front: str, tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.md", front + "\n# Head\n\nText.[^1]\n\n[^1]: note\n")
    assert found.title == "Guide: one"
    assert found.metadata["title"] == "Guide: one"
    assert found.metadata["author"] == "Ada"
    assert "[^1]: note" in found.text


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("Temperature;Pressure\n20,0;1010,5\n21,1;1011,3\n22,2;1012,6\n", ["20,0 | 1010,5", "21,1 | 1011,3", "22,2 | 1012,6"]),
        (
            "Customer;Sales\nA, Dept. 1, Town;10\nB, Dept. 2, Town;20\nC, Dept. 3, Town;30\n",
            ["A, Dept. 1, Town | 10", "B, Dept. 2, Town | 20"],
        ),
        ("1,5;2,5\n3,5;4,5\n", ["1,5 | 2,5", "3,5 | 4,5"]),
        ("a|b, c|d\n1|2, 3|4\n", ["1 | 2, 3 | 4"]),
        ("sep=;\nName;Size\nAda;3,5\n", ["Ada | 3,5"]),
        ('Name,Note\nAda,"says ""yes"", often"\nBo,a\\, b\n', ['Ada | says "yes", often', "Bo | a, b"]),
        ("\ufeffname;town\r\nAnna\0;Ulm\r\nBert;Bonn\r\n", ["Anna | Ulm", "Bert | Bonn"]),
    ],
    ids=["decimal", "addresses", "no header", "bars", "excel", "escapes", "nul"],
)
def test_dialects_of_csv(content: str, rows: list[str], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.csv", content).texts[: len(rows)] == rows


def test_a_blank_line_ends_no_table_of_html(tmp_path: Path) -> None:
    rows = "<tr><th>Ship</th><th>Berth</th></tr>\n\n<tr><td>Ada</td><td>7</td></tr>\n\n"
    page = f"<table>\n{rows}</table>\n\n<p>after</p>\n\n<b>*x*</b>\n"
    found = read_bytes(tmp_path, "a.md", page)
    assert [(e.text, e.header) for e in found.elements][:2] == [("Ada | 7", "Ship | Berth"), ("after", "")]
    spans = {page[e.char_start : e.char_end].strip() for e in found.elements[:2] if e.char_start is not None}
    assert spans == {page[: page.index("\n\n<p>")], "<p>after</p>"}


def test_rst_grid_tables_keep_columns_and_images_their_words() -> None:
    from pipeline.parse.rst import rst_elements

    text = ".. image:: x.png\n   :alt: A cat\n\n+---+---+---+\n| A | B | C |\n+===+===+===+\n| 1 |   | 3 |\n+---+---+---+\n"
    assert [(e.text, e.header) for e in rst_elements(text)] == [("A cat", ""), ("1 |  | 3", "A | B | C")]

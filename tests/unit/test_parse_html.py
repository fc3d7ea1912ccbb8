"""HTML: what is kept, what is left out on purpose, and what hostile pages cannot hide."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.parse import kinds, parse
from pipeline.parse.html import bare_text, html_parsed
from pipeline.types import Element, ElementKind, LossKind
from tests.reading import read_bytes


def elements(page: str) -> list[Element]:
    return list(html_parsed(page).elements)


def texts(page: str) -> list[str]:
    return [e.text for e in elements(page)]


@pytest.mark.parametrize("depth", [10, 300, 1_000, 5_000, 100_000])
def test_deep_nesting_loses_no_text(depth: int) -> None:
    page = "<html><body><p>start</p>" + "".join(f"<div>w{i} " for i in range(depth)) + "end" + "</div>" * depth + "</body></html>"
    start = time.process_time()
    found = " ".join(texts(page)).split()
    assert time.process_time() - start < 20
    assert found == ["start", *(f"w{i}" for i in range(depth)), "end"]


def test_deep_nesting_of_tables_and_quotes() -> None:
    page = (
        "<table><tr><td>" * 400
        + "core"
        + "</td></tr></table>" * 400
        + "<blockquote>" * 400
        + "deep"
        + "</blockquote>" * 400
        + "<p>tail"
    )
    assert texts(page) == ["core", "deep", "tail"]


def test_text_in_unknown_tags_and_outside_of_body_is_kept() -> None:
    found = texts("<html><x-card>one</x-card><body><my-block><p>two</p>three</my-block></body></html> four")
    assert " ".join(found).split() == ["one", "two", "three", "four"]


def test_boilerplate_goes() -> None:
    page = (
        "<body><header><a>Logo</a></header><div role='navigation'>Nav</div><nav>Menu</nav><div hidden>secret</div>"
        "<article><header><h1>Head<a class='headerlink' href='#h'>¶</a></h1></header><p>Body text</p>"
        "<footer>By the author</footer></article>"
        "<p style='display: none'>unseen</p><footer>Imprint</footer></body>"
    )
    assert texts(page) == ["Head", "Body text", "By the author"]


def test_main_part_is_taken_where_it_holds_the_text() -> None:
    page = "<body><div>Sidebar of links</div><div role='main'><h1>Real</h1><p>{}</p></div></body>"
    assert texts(page.format("The content of the page. " * 5))[0] == "Real"
    assert "Sidebar of links" not in texts(page.format("The content of the page. " * 5))
    assert "Sidebar of links" in texts(page.format(""))


def test_object_descriptions_stand_under_their_names() -> None:
    page = (
        "<h1>Built-in</h1><dl><dt class='sig' id='open'><span class='sig-name descname'>open</span>(<em>file</em>)"
        "<a class='headerlink'>¶</a></dt><dd><p>Open file.</p>"
        "<dl><dt class='sig' id='m'><span class='sig-name descname'>mode</span></dt>"
        "<dd><p>The mode.</p></dd></dl><p>More on open.</p></dd></dl><p>After.</p><h2>Next</h2><dl><dt>plain</dt><dd>term</dd></dl>"
    )
    found = [(e.level, e.text) for e in elements(page)]
    assert found == [
        (1, "Built-in"), (2, "open"), (0, "open(file)"), (0, "Open file."), (3, "mode"), (0, "The mode."), (2, "open"),
        (0, "More on open."), (1, "Built-in"), (0, "After."), (2, "Next"), (0, "plain"), (0, "term"),
    ]  # fmt: skip


def test_code_lists_and_notes() -> None:
    page = (
        "<pre>def f():\n    <b>return</b> 1\n</pre><ol><li>one<ul><li>sub</li></ul></li><li><p>two</p><p>more</p></li></ol>"
        "<div class='admonition note'><p class='admonition-title'>Note</p><p>Mind it.</p></div>a<br>b"
    )
    assert [(e.kind.value, e.text) for e in elements(page)] == [
        ("code", "def f():\n    return 1"), ("list_item", "1. one"), ("list_item", "sub"), ("list_item", "2. two"),
        ("list_item", "more"), ("paragraph", "Note: Mind it."), ("paragraph", "a b"),
    ]  # fmt: skip


def test_layout_tables_are_no_data() -> None:
    page = "<table><tr><td><h2>Head</h2><p>Text one.</p></td><td><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    found = elements(page)
    assert [(e.kind, e.text) for e in found] == [
        (ElementKind.HEADING, "Head"), (ElementKind.PARAGRAPH, "Text one."), (ElementKind.TABLE_ROW, "a | b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("<meta charset='iso-8859-1'>", "latin-1"),
        ("<meta charset=utf-8>", "utf-8"),
        ("", "utf-8"),
        ("", "utf-16"),
        ("<meta http-equiv='Content-Type' content='text/html; charset=shift_jis'>", "shift_jis"),
    ],
)
def test_encoding_of_pages(head: str, encoding: str, tmp_path: Path) -> None:
    word = "港の規則" if encoding == "shift_jis" else "Brücke"
    path = tmp_path / "a.html"
    path.write_bytes(f"<html><head>{head}<title>T {word}</title></head><body><p>{word}</p></body></html>".encode(encoding))
    parsed = parse(path, "a.html", kinds.HTML)
    assert parsed.title == f"T {word}"
    assert [e.text for e in parsed.elements] == [word]


def test_xhtml_declaration_and_entities() -> None:
    doctype = '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    page = f"{doctype}<html><body><p>a &amp; b &x;</p></body></html>"
    found = " ".join(texts(page))
    assert "a & b" in found
    assert "root:" not in found


@pytest.mark.parametrize("piece", ["<p>", "<script", "<!--", "<a href='", "<table><tr>", "</div>", "<style>", "&#x", "<"])
def test_hostile_repetition_is_quick(piece: str) -> None:
    start = time.process_time()
    elements("<p>kept</p>" + piece * 30_000)
    assert time.process_time() - start < 10


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_is_taken(text: str) -> None:
    assert all(e.text.strip() for e in elements(text))
    bare_text(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "<p>",
                "</p>",
                "<div>",
                "</div>",
                "w ",
                "<li>",
                "<td>",
                "<tr>",
                "<table>",
                "</table>",
                "<b>",
                "<h2>",
                "<dl>",
                "<dt>",
                "<dd>",
                "<pre>",
                "</h2>",
            ]
        ),
        max_size=40,
    )
)
def test_broken_markup_loses_no_word(parts: list[str]) -> None:
    page = "".join(parts)
    assert " ".join(texts(page)).split().count("w") == page.count("w ")


def test_cells_that_span_rows_and_columns(tmp_path: Path) -> None:
    table = (
        "<table><thead><tr><th rowspan=2>Zone</th><th colspan=2>Price</th></tr><tr><th>5 kg</th><th>10 kg</th></tr></thead>"
        "<tr><td rowspan=2>Alps<td>17<td>23</tr><tr><td>18<td>24</tr><tr><td>Coast</td><td colspan=2>on request</td></tr>"
        "<tr><td colspan=3>All prices in euros</td></tr></table>"
    )
    found = read_bytes(tmp_path, "a.html", table)
    assert {e.header for e in found.elements} == {"Zone | Price 5 kg | Price 10 kg"}
    assert found.texts == ["Alps | 17 | 23", "Alps | 18 | 24", "Coast | on request | on request", "All prices in euros"]


@pytest.mark.parametrize("span", ["0", "-1", "99999999999", "x", "65534"])
def test_odd_spans_are_harmless(span: str, tmp_path: Path) -> None:
    page = f"<table><tr><td rowspan='{span}' colspan='{span}'>a</td><td>b</td></tr><tr><td>c</td></tr></table>"
    text = read_bytes(tmp_path, "a.html", page).text
    assert {"a", "b", "c"} <= set(text.replace("|", " ").split())


def test_headings_code_and_breaks_inside_a_table_of_data(tmp_path: Path) -> None:
    page = (
        "<table><tr><th>Call</th><th>Result</th></tr><tr><td><h4>find</h4></td><td><pre>List&lt;Id&gt;</pre></td></tr>"
        "<tr><td>first<br>second</td><td><ul><li>a</li><li>b</li></ul></td></tr></table>"
    )
    found = read_bytes(tmp_path, "a.html", page)
    assert [(e.header, e.text) for e in found.elements] == [
        ("Call | Result", "find | List<Id>"),
        ("Call | Result", "first second | a b"),
    ]


@pytest.mark.parametrize(
    ("page", "shown", "hidden"),
    [
        ("<p>Open <span aria-hidden='true'>never</span></p>", "Open", "never"),
        ("<p style='DISPLAY : none'>never</p><p>Open</p>", "Open", "never"),
        ("<template><p>never</p></template><p>Open</p>", "Open", "never"),
        ("<p hidden>never</p><p>Open</p>", "Open", "never"),
        ("<details><summary>More</summary><p>Folded text</p></details>", "Folded text", "never"),
        ("<div role='tablist'><a role='tab'>One</a></div><div role='tabpanel' hidden><p>Panel two</p></div>", "Panel two", "never"),
        (
            "<ul role='menu'><li>Soup of the day with bread, 5 euros</li><li>Fish from the harbour, 12 euros</li></ul>",
            "Fish",
            "never",
        ),
        ("<div role='toolbar'><a href=1>Copy never</a> <a href=2>Print never</a></div><p>Open</p>", "Open", "never"),
        ("<figure><img src=a.png alt='A crane'><figcaption>The pier in May</figcaption></figure>", "A crane", "never"),
        ("<dl><dt>Berth</dt><dd>A place for a ship</dd></dl>", "A place for a ship", "never"),
        ("<p>Map&lt;String, Invoice&gt; &amp; M&uuml;ller&#8217;s</p>", "Map<String, Invoice> & Müller’s", "never"),
        ("<p>Donau&shy;dampf&shy;schiff, Kranken&#8203;kasse&#x2060;n</p>", "Donaudampfschiff, Krankenkassen", "\xad"),
        ("<p>ភាសា&#8203;ខ្មែរ</p>", "ភាសា\u200bខ្មែរ", "never"),
    ],
)
def test_what_a_browser_shows_is_text(page: str, shown: str, hidden: str, tmp_path: Path) -> None:
    text = read_bytes(tmp_path, "a.html", f"<!DOCTYPE html><html><head><meta charset=utf-8></head><body>{page}</body></html>").text
    assert shown in text
    assert hidden not in text


def test_numbers_of_lists(tmp_path: Path) -> None:
    page = "<ol start=42><li>a</li><li value=50>b</li><li>c</li></ol><ol><li>d</li></ol>"
    assert read_bytes(tmp_path, "a.html", page).texts == ["42. a", "50. b", "51. c", "1. d"]


def test_pages_that_a_script_fills_are_named(tmp_path: Path) -> None:
    page = "<html><body><div id=root>Loading</div><script src=/app.js></script></body></html>"
    assert read_bytes(tmp_path, "a.html", page).lost == {LossKind.SCRIPTED_CONTENT: 1}
    full = page.replace("Loading", "<p>" + "Enough words to read without any script. " * 10 + "</p>")
    assert not read_bytes(tmp_path, "b.html", full).losses


def test_pictures_inside_the_page_without_words_are_losses(tmp_path: Path) -> None:
    inside = "src='data:image/png;base64,iVBORw0KGgo='"
    page = f"<p>Words.</p><img {inside}><img {inside} alt=''><img src=a.png>"
    found = read_bytes(tmp_path, "a.html", page)
    assert (found.texts, found.lost) == (["Words."], {LossKind.PICTURE: 1})


@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "“Orchard” costs € 1.250"),
        ("windows-1251", "cp1251", "Размер"),
        ("iso-8859-1", "utf-8", "Müller’s"),
    ],
)
def test_declared_encodings_mean_what_they_mean_in_browsers(label: str, encoding: str, text: str, tmp_path: Path) -> None:
    page = (
        f"<html><head><meta http-equiv='Content-Type' content='text/html; charset={label}'></head><body><p>{text}</p></body></html>"
    )
    assert read_bytes(tmp_path, "a.html", page.encode(encoding)).texts == [text]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("<tr><td rowspan=0>All<td>1<tr><td>2<tr><td>3", ["All | 1", "All | 2", "All | 3"]),
        (
            "<tbody><tr><td rowspan=9>Old<td>1<tr><td>2</tbody><tbody><tr><td>New<td>3</tbody>",
            ["Old | 1", "Old | 2", "New | 3"],
        ),
        ("<tr><td rowspan=2>M<td rowspan=2>N<tr></tr><tr><td>O<td>P", ["M | N", "O | P"]),
    ],
    ids=["to the end", "not beyond its part", "an empty row"],
)
def test_cells_span_rows_of_their_part_of_the_table(rows: str, told: list[str], tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.html", f"<html><body><table>{rows}</table></body></html>")
    assert found.texts == told


def test_equations_of_pages_are_linear_text(tmp_path: Path) -> None:
    equation = (
        "<math><semantics><mrow><mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mi>c</mi></mrow></mfrac><msup><mi>x</mi><mn>2</mn></msup>"
        "</mrow><annotation encoding='application/x-tex'>\\frac{a}{b+c}x^2</annotation></semantics></math>"
    )
    cells = f"<table><tr><td>Power</td><td>{equation}</td></tr><tr><td>a</td><td>b</td></tr></table>"
    found = read_bytes(tmp_path, "a.html", f"<html><body><p>So {equation} holds.</p>{cells}</body></html>")
    assert "So a/(b+c)x^2 holds." in found.texts
    assert "Power | a/(b+c)x^2" in found.text
    assert "frac" not in found.text


def test_a_deep_equation_keeps_its_words(tmp_path: Path) -> None:
    page = f"<html><body><p>Before</p><math>{'<mrow>' * 1500}<mi>deep</mi>{'</mrow>' * 1500}</math><p>After</p></body></html>"
    assert read_bytes(tmp_path, "a.html", page).texts == ["Before", "deep", "After"]


def test_words_of_drawings_inside_a_page(tmp_path: Path) -> None:
    drawing = "<svg><title>No words</title><text>Pump <tspan>seven</tspan></text><text>Gate</text></svg>"
    icon = "<svg><title>Icon</title><path d='M0 0'/></svg>"
    page = f"<html><body><p>Before {icon} it</p><div>{drawing}</div><div hidden>{drawing}</div><p>After</p></body></html>"
    assert read_bytes(tmp_path, "a.html", page).texts == ["Before it", "Pump seven\nGate", "After"]


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        ("cp1251", "Ключ от склада хранится у охранника"),
        ("cp1253", "Το κλειδί της αποθήκης είναι στον φύλακα"),
        ("gb18030", "仓库钥匙由门卫保管，每天晚上检查"),
        ("cp1252", "Der Schlüssel fürs Gebäude heißt „Größe 7“ – größer"),
        ("utf-8", "Ключ от склада хранится у охранника"),
    ],
)
def test_pages_that_declare_western_letters_and_have_others(codec: str, words: str, tmp_path: Path) -> None:
    page = f"<html><head><meta charset='iso-8859-1'></head><body><p>{words}</p></body></html>"
    assert read_bytes(tmp_path, "a.html", page.encode(codec)).texts == [words]


def test_an_equation_that_is_left_open_hides_no_text(tmp_path: Path) -> None:
    page = "<html><body><p>Before <math><mi>x</mi><annotation>\\alpha</p><p>After it</p></body></html>"
    assert "After it" in read_bytes(tmp_path, "a.html", page).text


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<p>Energy <math>E = mc^2</math> and more.</p>", ["Energy E = mc^2 and more."]),
        ("<ul><li>Use the <math> element for it</li></ul>", ["Use the element for it"]),
        ("<div>Use the <math> element.<p>After</p><h2>Head</h2></div>", ["Use the element.", "After", "Head"]),
        ("<p><math><mn>2</mn><mtext>&nbsp;if&nbsp;</mtext><mi>x</mi></math></p>", ["2 if x"]),
        ("<p><math> <msub> <mi>x</mi> <mtext>max</mtext> </msub> </math></p>", ["x_max"]),
        ("<p>Seen</p><math style='display:none'><mi>x</mi></math><math hidden><mi>y</mi></math>", ["Seen"]),
    ],
)
def test_equations_as_people_write_them(body: str, texts: list[str], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.html", f"<html><body>{body}</body></html>").texts == texts


def test_an_equation_in_a_second_language_does_not_undo_the_page(tmp_path: Path) -> None:
    second = f"<annotation-xml encoding='MathML-Content'>{'<apply><ci>z</ci></apply>' * 50}</annotation-xml>"
    equation = f"<math><semantics><mi>x</mi><annotation>x</annotation>{second}</semantics></math>"
    found = read_bytes(tmp_path, "a.html", f"<html><body><h2>Head</h2><p>So {equation} holds.</p></body></html>")
    assert (found.title, found.texts) == ("Head", ["Head", "So x holds."])


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (
            "<svg><switch><foreignObject><div>Label A</div></foreignObject><text>Label A</text></switch><text>B</text></svg>",
            ["Label A\nB"],
        ),
        ("<h1>Foo <svg><text>i</text></svg> bar</h1><p>Text</p>", ["Foo bar", "i", "Text"]),
        ("<svg><text><tspan>H</tspan><tspan>ello</tspan><tspan x='0' dy='9'>there</tspan></text></svg>", ["Hello there"]),
    ],
)
def test_drawings_as_browsers_show_them(body: str, texts: list[str], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.html", f"<html><body>{body}</body></html>").texts == texts


def test_a_row_without_words_of_its_own_does_not_repeat_those_above(tmp_path: Path) -> None:
    table = "<table><tr><td rowspan=3>All<td>1<tr><td><tr><td>3</table>"
    assert read_bytes(tmp_path, "a.html", f"<html><body>{table}</body></html>").texts == ["All | 1", "All | 3"]


NESTED = "<table><tr><td>a<td>1</table>"


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (
            f"<tr><td>Name<td>Ann<tr><td>Sizes<td>of {NESTED} cm<tr><td>City<td>Bonn",
            ["Name | Ann", "Sizes | of a 1 cm", "City | Bonn"],
        ),
        (f"<tr><th>Key<th>Value<tr><td>Sizes<td>{NESTED}", ["Sizes | a 1"]),
        (f"<tr><td>Menu<td>{NESTED}<tr><td>Foot<td>{NESTED}", ["Menu", "a | 1", "Foot", "a | 1"]),  # lays out a page
        (f"<tr><td>x<td>y<tr><td>z<td>w<tr><td>o<td><table><tr><td>{NESTED}</table>", ["x", "y", "z", "w", "o", "a | 1"]),
    ],
)
def test_a_table_with_tables_in_its_cells_has_each_word_once(table: str, found: list[str]) -> None:
    assert texts(f"<html><body><table>{table}</table></body></html>") == found


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("<tr><td><b>Key</b><td><strong><b>Value</b></strong>", "Key | Value"),
        ("<tr class='header'><td>Key<td>Value", "Key | Value"),
        ("<tr><td scope=col>Key<td scope=col>Value", "Key | Value"),
        ("<tr><td><b>Key</b><td>Value", ""),
        ("<tr><td>Key<td>Value", ""),
    ],
)
def test_a_first_row_without_th_is_a_header_where_its_tags_say_so(first: str, header: str) -> None:
    rows = elements(f"<html><body><table>{first}<tr><td>a<td>b<tr><td>c<td>d</table></body></html>")
    assert [(e.text, e.header) for e in rows][-2:] == [("a | b", header), ("c | d", header)]


def test_a_table_all_in_bold_has_no_header() -> None:
    row = "<tr><td><b>a</b><td><b>b</b>"
    assert [e.header for e in elements(f"<table>{row * 3}</table>")] == ["", "", ""]


def test_a_span_is_no_wider_than_the_other_rows() -> None:
    wide = "<tr><td colspan=1000>All<td>end<tr><td colspan=2>x<td>y<tr><td>1<td>2<td>3"
    assert texts(f"<table>{wide}</table>") == ["All | All | All | end", "x | x | y", "1 | 2 | 3"]


def test_forms_as_browsers_show_them() -> None:
    page = "<p>a<textarea>Some text</textarea>b</p><h2><button>How?</button></h2><p>So. <button>Copy</button></p>"
    assert texts(page + "<select><option>No</select>") == ["a", "Some text", "b", "How?", "So."]

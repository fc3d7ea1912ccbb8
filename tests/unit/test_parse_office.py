"""Word and PowerPoint through unstructured: offline, and checked for silent loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.parse import kinds, office, parse
from pipeline.parse.offline import sentences, tags, words
from pipeline.types import ElementKind
from tests import documents as d


def test_no_network_and_no_changed_limits(tmp_path: Path) -> None:
    """In a process of its own, where any connection is an error."""
    path = d.write(tmp_path, "docx")
    code = f"""
import socket, sys
def refuse(*args, **kwargs):
    print("connects", args, file=sys.stderr)
    raise SystemExit(3)
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from pipeline.parse import kinds, parse
found = list(parse(Path({str(path)!r}), "a.docx", kinds.DOCX).elements)
import PIL.Image
assert PIL.Image.MAX_IMAGE_PIXELS == 89478485, PIL.Image.MAX_IMAGE_PIXELS
assert "en_core_web_sm" not in sys.modules
assert len(found) == 8
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_rules_in_place_of_a_model() -> None:
    assert sentences("One is here. Two! Three?") == ["One is here.", "Two!", "Three?"]
    assert words("It's a test, no?") == ["It's", "a", "test", ",", "no", "?"]
    assert tags("He moored it") == [("He", "NN"), ("moored", "VB"), ("it", "NN")]


def test_running_heads_go_and_footnotes_stay(tmp_path: Path) -> None:
    import zipfile

    path = d.write(tmp_path, "docx")
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "word/footnotes.xml", f'<w:footnotes xmlns:w="{w}"><w:p><w:r><w:t>A footnote.</w:t></w:r></w:p></w:footnotes>'
        )
    texts = [e.text for e in parse(path, "a.docx", kinds.DOCX).elements]
    assert "Running head" not in texts
    assert texts[-1] == "A footnote."


def test_text_that_unstructured_misses_is_taken_from_the_file(tmp_path: Path) -> None:
    import docx
    from docx.oxml import parse_xml

    w, v = "http://schemas.openxmlformats.org/wordprocessingml/2006/main", "urn:schemas-microsoft-com:vml"
    document = docx.Document()
    document.add_heading("Head", 1)
    box = (
        f'<w:p xmlns:w="{w}" xmlns:v="{v}"><w:r><w:pict><v:shape><v:textbox><w:txbxContent><w:p><w:r>'
        f"<w:t>{d.SENTENCE}</w:t></w:r></w:p>"
        "</w:txbxContent></v:textbox></v:shape></w:pict></w:r></w:p>"
    )
    document.element.body.insert(1, parse_xml(box))
    path = tmp_path / "a.docx"
    document.save(str(path))
    found = list(parse(path, "a.docx", kinds.DOCX).elements)
    assert [(e.level, e.text) for e in found] == [(1, "Head"), (0, d.SENTENCE)]


def test_entities_in_parts_reach_no_file(tmp_path: Path) -> None:
    evil = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><w:p xmlns:w="x">&e;</w:p>'
    path = tmp_path / "a.docx"
    path.write_bytes(d.zip_of({"word/footnotes.xml": evil}))
    import zipfile

    with zipfile.ZipFile(path) as archive:
        assert office._paragraphs(archive, "word/footnotes.xml") == []


def test_slides_start_with_their_heading_and_keep_notes(tmp_path: Path) -> None:
    found = list(parse(d.write(tmp_path, "pptx"), "a.pptx", kinds.PPTX).elements)
    assert [e.page for e in found if e.kind is ElementKind.HEADING] == [1, 2]
    assert found[0].text == d.TITLE
    assert [e.page for e in found if e.text == f"Notes on {d.SECTION}"] == [2]


def test_a_slide_without_a_title_gets_a_heading(tmp_path: Path) -> None:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    for text in ("Words on the first slide stand here.", "Words on the second slide stand here."):
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        slide.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1)).text_frame.text = text
    path = tmp_path / "a.pptx"
    deck.save(str(path))
    assert [e.text for e in parse(path, "a.pptx", kinds.PPTX).elements][::2] == ["Slide 1", "Slide 2"]


@pytest.mark.parametrize("kind", ["docx", "pptx"])
def test_title_is_the_first_heading(kind: str, tmp_path: Path) -> None:
    path = d.write(tmp_path, kind)
    assert parse(path, path.name, getattr(kinds, kind.upper())).title == d.TITLE

"""Properties that documents have of themselves, under one set of names."""

from __future__ import annotations

import email.message
from datetime import UTC, datetime
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest

from pipeline.metadata import Given, fit, gathered, new_types
from pipeline.parse import kinds, parse
from pipeline.parse.properties import dated, of_core, of_mail, of_page, of_pdf


def read(path: Path, media_type: str) -> dict[str, str]:
    parsed = parse(path, path.name, media_type)
    list(parsed.elements)
    return parsed.metadata


def test_office_files(tmp_path: Path) -> None:
    made = docx.Document()
    made.add_paragraph("Words of the agreement.")
    properties = made.core_properties
    properties.author, properties.subject, properties.keywords, properties.language = "Ada L.", "Rent", "flat, rent", "en-GB"
    properties.created = properties.modified = datetime(2024, 5, 31, 12, 30, tzinfo=UTC)
    made.save(str(tmp_path / "a.docx"))
    assert read(tmp_path / "a.docx", kinds.DOCX) == {
        "author": "Ada L.",
        "subject": "Rent",
        "keywords": "flat, rent",
        "language": "en-GB",
        "created": "2024-05-31T12:30:00+00:00",
        "modified": "2024-05-31T12:30:00+00:00",
    }
    slides = pptx.Presentation()
    slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "Rent"
    slides.core_properties.author = "Ada"
    slides.save(str(tmp_path / "a.pptx"))
    assert read(tmp_path / "a.pptx", kinds.PPTX)["author"] == "Ada"
    book = openpyxl.Workbook()
    book.active.append(["rent", 310])
    book.properties.creator = "Ada"
    book.save(tmp_path / "a.xlsx")
    assert read(tmp_path / "a.xlsx", kinds.XLSX)["author"] == "Ada"


def test_pages(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text(
        "<!doctype html><html dir=ltr lang='en-US'><head><title>T</title><meta name=\"Author\" content='Ada &amp; Bo'>"
        "<META content='a, b' name='keywords'/><meta property='article:published_time' content='2024-05-31T10:00:00Z'>"
        "<meta name='dcterms.modified' content='soon'><meta name='author' content='Other'><meta name=generator content=x></head>"
        "<body><h1>T</h1><p>Words of the page.</body></html>"
    )
    assert read(page, kinds.HTML) == {
        "language": "en-US",
        "author": "Ada & Bo",
        "keywords": "a, b",
        "created": "2024-05-31T10:00:00+00:00",
    }
    assert of_page("<meta " + "x" * 5000 + ">" + "<meta name='author' content='" * 3000) == {}


def test_mail(tmp_path: Path) -> None:
    message = email.message.EmailMessage()
    message["Subject"], message["From"] = "[lists] Rent [solved]", "Ada <ada@example.org>"
    message["To"] = '"B, Bo" <bo@example.org>, cy@example.org'
    message["Date"] = "Fri, 31 May 2024 12:30:00 +0200"
    message.set_content("Words of the message.")
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    found = read(tmp_path / "a.eml", kinds.EML)
    assert found == {
        "subject": "[lists] Rent [solved]",
        "from": "ada@example.org",
        "to": "[bo@example.org, cy@example.org]",
        "created": "2024-05-31T12:30:00+02:00",
    }
    raw = gathered(found, Given())
    assert fit(raw, new_types(raw, {})).values == {
        "subject": "[lists] Rent [solved]",
        "from": "ada@example.org",
        "to": ("bo@example.org", "cy@example.org"),
        "created": "2024-05-31T10:30:00Z",
    }
    assert of_mail("", "nobody", "", "", "yesterday") == {}


def test_pdf() -> None:
    info = {"Author": " Ada\x00 ", "Title": "T", "Keywords": "", "CreationDate": "D:20240531123000+02'00'", "ModDate": "D:2024"}
    assert of_pdf(info) == {"author": "Ada", "created": "2024-05-31T12:30:00+02:00"}
    assert of_core([("creator", "x" * 5000), ("revision", "3")]) == {"author": "x" * 1000}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D:20240531", "2024-05-31T00:00:00+00:00"),
        ("20240531123000Z", "2024-05-31T12:30:00+00:00"),
        ("D:20240531123000-05'30", "2024-05-31T12:30:00-05:30"),
        ("2024-05-31", "2024-05-31T00:00:00"),
        ("Fri, 31 May 2024 12:30:00 GMT", "2024-05-31T12:30:00+00:00"),
        ("D:20241399", ""),
        ("99999999999999999999", ""),
        ("2024", ""),
        ("2024-05", ""),
        ("", ""),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert dated(text) == expected

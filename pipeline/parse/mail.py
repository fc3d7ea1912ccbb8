"""Mail: the subject as heading; sender, recipients and date as a paragraph; the best body; attachments as documents."""

from __future__ import annotations

import base64
import codecs
import email
import io
import quopri
import re
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.errors import DocumentError
from pipeline.parse.cards import cards_of
from pipeline.parse.decode import decode_bytes, detect_bytes
from pipeline.parse.html import html_parsed
from pipeline.parse.parsed import Losses, Member, Parsed, squeeze
from pipeline.parse.plain import paragraphs
from pipeline.parse.properties import of_mail
from pipeline.parse.uuencoded import without_files
from pipeline.types import Element, ElementKind, LossKind, Reason

_HEADERS = ("From", "To", "Cc", "Date")
#: Headers that may contain text in an encoding that nothing declares.
_DECODED_HEADERS = ("Subject", *_HEADERS, "Content-Type", "Content-Disposition")
#: Maximum depth of messages inside messages.
MAX_FORWARDS = 8
#: A plain text that only asks for a reader of HTML is shorter.
MAX_NOTICE_CHARS = 200
#: Property of an Outlook message that holds its HTML as bytes.
_PID_HTML = 0x1013
_ENCRYPTED_TYPES = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
#: Parts that say nothing to people: signatures, and receipts of mail servers.
_SILENT_TYPES = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature", "text/rfc822-headers")

#: The first line of .emlx files: the number of bytes of the message.
_EMLX = re.compile(rb"\s{0,20}(\d{1,12})[ \t]*\r?\n")
_SPACED_NAME = re.compile(rb"^([A-Za-z][A-Za-z0-9-]{0,60})[ \t]+:", re.M)
_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?]{0,20})?\?([BbQq])\?([^?]{0,2000})\?=(\s+(?==\?))?")
_LONG_WORD = re.compile(r"\w{5,}")


def parse_eml(path: Path, name: str) -> Parsed:
    """Elements of the mail at `path`; its attachments are members. Raises DocumentError (ENCRYPTED) for an encrypted body."""
    message = email.message_from_bytes(_plain_mail(path.read_bytes()))
    if not message.keys():
        raise DocumentError(Reason.CORRUPT, "no mail headers")
    return message_parsed(message)


def message_parsed(message: Message) -> Parsed:
    """Elements and members of a message that the standard library has read."""
    mail = _Mail()
    elements = list(mail.message(message, 1))
    if not any(e.kind is not ElementKind.HEADING for e in elements[2:]) and message.get_content_type() in _ENCRYPTED_TYPES:
        raise DocumentError(Reason.ENCRYPTED, "an encrypted mail")
    subject, sender, to, cc, date = (_header(message, name) for name in ("Subject", *_HEADERS))
    found = of_mail(subject, sender, to, cc, date)
    return Parsed(subject, iter(elements), losses=mail.losses, metadata=found, members=iter(mail.members))


def _plain_mail(data: bytes) -> bytes:
    """A mail as it travels: without the counts of .emlx files, in a byte-wise encoding, with regular names of fields."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:200].count(0) > 20:
        found = detect_bytes(data)
        data = data.decode(found.name if found else "utf-16", errors="replace").encode("utf-8")
    if (counted := _EMLX.match(data)) is not None:
        data = data[counted.end() : counted.end() + int(counted.group(1))]
    data = data.removeprefix(codecs.BOM_UTF8)
    blank = re.search(rb"\r?\n\r?\n", data)
    end = blank.start() if blank else len(data)
    return _SPACED_NAME.sub(rb"\1:", data[:end]) + data[end:]


class _Mail:
    """Reads a message and the messages inside it."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.members: list[Member] = []
        self._names: dict[str, int] = {}

    def message(self, message: Message, level: int) -> Iterator[Element]:
        """Headers and body."""
        _decode_headers(message)
        yield from _top(_header(message, "Subject"), [(name, _header(message, name)) for name in _HEADERS], level)
        yield from self._body(message, level)

    def _body(self, part: Message, level: int) -> Iterator[Element]:
        _decode_headers(part)
        kind = part.get_content_type()
        if part.is_multipart():
            children = [child for child in part.get_payload() if isinstance(child, Message)]
            if kind == "message/rfc822":
                if level >= MAX_FORWARDS:
                    self.losses.add(LossKind.CUT_TEXT, detail=f"messages forwarded more than {MAX_FORWARDS} times")
                    return
                for child in children:
                    yield from self.message(child, level + 1)
            elif kind == "multipart/alternative":
                yield from self._best(children, level)
            else:
                for child in children:
                    yield from self._body(child, level)
            return
        filename = part.get_filename()
        attached = part.get_content_disposition() == "attachment"
        if part.get_content_maintype() == "multipart":  # its boundary is missing
            yield from _text(part, "text/plain", level, self.losses)
        elif kind == "text/plain" and not attached:
            yield from self._plain(part, level)
        elif kind == "text/html" and not attached:
            yield from _text(part, kind, level, self.losses)
        elif kind == "text/calendar":
            yield from cards_of(io.StringIO(_decoded_text(part).replace("\r\n", "\n")), self.losses)
        elif kind in _SILENT_TYPES:
            return
        elif filename or attached:
            yield self.attachment(_decoded(filename or ""), kind, partial(_payload, part))
        elif kind not in _ENCRYPTED_TYPES and part.get_payload(decode=True):
            self.losses.add(LossKind.EMBEDDED_OBJECT, detail=kind)

    def _plain(self, part: Message, level: int) -> Iterator[Element]:
        """Plain text, of which the files inside it (uuencode) are attachments."""
        text, files = without_files(_decoded_text(part))
        yield from _content(text, False, level, self.losses)
        for filename, data in files:
            yield self.attachment(filename, "application/octet-stream", partial(io.BytesIO, data))

    def attachment(self, filename: str, kind: str, opened: Callable[[], IO[bytes]]) -> Element:
        """An attachment: its name as text, its content as a member."""
        # The name may be a path that leaves the folder: only its last part is used.
        kind = squeeze(kind)
        name = squeeze(filename.replace("\\", "/").rsplit("/", 1)[-1])
        again = self._names.get(name, 0)
        self._names[name] = again + 1
        own = name or f"unnamed.{kind.rpartition('/')[2] or 'bin'}"
        self.members.append(Member(f"{again + 1}-{own}" if again else own, opened))
        return Element(f"Attachment: {name or kind or 'without a name'}", ElementKind.LIST_ITEM)

    def _best(self, children: list[Message], level: int) -> Iterator[Element]:
        """The alternative with the most text: HTML, for its structure, where it holds about as much as the others."""
        found = [(child.get_content_type(), list(self._body(child, level))) for child in children]
        sizes = [sum(len(e.text) for e in elements) for _, elements in found]
        most = max(sizes, default=0)
        events = [e for kind, elements in found if kind == "text/calendar" for e in elements]
        texts = [(kind, elements, size) for (kind, elements), size in zip(found, sizes, strict=True) if kind != "text/calendar"]
        best = next((elements for kind, elements, size in texts if kind != "text/plain" and 2 * size >= most), None)
        pages = [elements for kind, elements, size in texts if kind != "text/plain" and size]
        if best is None and pages and all(_asks_for_html(e, pages[0]) for kind, e, _ in texts if kind == "text/plain"):
            best = pages[0]
        if best is None:
            best = max(texts, key=lambda one: one[2], default=("", [], 0))[1]
        yield from best
        yield from events


def _asks_for_html(plain: list[Element], page: list[Element]) -> bool:
    """Whether a plain text only says that its reader needs to show HTML: it is short, and no long word of it is in the page."""
    text, other = (" ".join(e.text for e in elements).lower() for elements in (plain, page))
    return len(text) < MAX_NOTICE_CHARS and "html" in text and set(_LONG_WORD.findall(text)).isdisjoint(_LONG_WORD.findall(other))


def _payload(part: Message) -> IO[bytes]:
    payload = part.get_payload(decode=True)
    return io.BytesIO(payload if isinstance(payload, bytes) else b"")


def _top(subject: str, headers: Iterable[tuple[str, str]], level: int) -> Iterator[Element]:
    if subject:
        yield Element(subject, ElementKind.HEADING, level)
    if text := "\n".join(f"{name}: {value}" for name, value in headers if value):
        yield Element(text)


def _text(part: Message, kind: str, level: int, losses: Losses) -> Iterator[Element]:
    if text := _decoded_text(part):
        yield from _content(text, kind == "text/html", level, losses)


def _decoded_text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or not payload.strip():
        return ""
    text = decode_bytes(payload, str(part.get_content_charset() or ""))
    if str(part.get_param("format") or "").lower() == "flowed":
        text = _unflowed(text, str(part.get_param("delsp") or "").lower() == "yes")
    return text


def _unflowed(text: str, delete_space: bool) -> str:
    """`text` with the lines joined that `format=flowed` divided (RFC 3676): those that end with a space, of one depth of quotes."""
    lines: list[list[str]] = []
    open_depth = -1  # of quotes of the last line, if it goes on
    for line in text.replace("\r\n", "\n").split("\n"):
        body = line.lstrip(">")
        depth = len(line) - len(body)
        body = body.removeprefix(" ")
        goes_on = body.endswith(" ") and body != "-- "
        if depth != open_depth or body == "-- ":
            lines.append([f"{'>' * depth} " if depth else ""])
        lines[-1].append(body[:-1] if goes_on and delete_space else body)
        open_depth = depth if goes_on else -1
    return "\n".join(map("".join, lines))


def _content(text: str, is_html: bool, level: int, losses: Losses) -> Iterator[Element]:
    """The body, with its headings below the subject and without offsets, which would be meaningless inside a mail."""
    found = html_parsed(text, losses=losses).elements if is_html else paragraphs(io.StringIO(text.replace("\r\n", "\n")))
    for e in found:
        yield Element(e.text, e.kind, e.level + level if e.level else 0, header=e.header)


def _decode_headers(message: Message) -> None:
    """Replace headers that contain bytes beyond ASCII by their text."""
    for name, value in list(message.raw_items()):
        if name.title() in _DECODED_HEADERS and not str(value).isascii():
            message.replace_header(name, decode_bytes(str(value).encode("utf-8", "surrogateescape")))


def _header(message: Message, name: str) -> str:
    return _decoded(str(message.get(name) or ""))


def _decoded(value: str) -> str:
    """`value` with its encoded words (RFC 2047) decoded; a character may be divided between two of them."""
    parts: list[str] = []
    position, pending, charset = 0, b"", ""
    for word in _WORD.finditer(value):
        if word.start() > position or word.group(1).lower() != charset:
            parts.append(decode_bytes(pending, charset) if pending else "")
            parts.append(value[position : word.start()])
            pending = b""
        charset, position = word.group(1).lower(), word.end()
        pending += _decoded_word(word.group(2), word.group(3))
    parts.append(decode_bytes(pending, charset) if pending else "")
    return squeeze("".join(parts) + value[position:])


def _decoded_word(encoding: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return quopri.decodestring(data.replace(b"_", b" "), header=False)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except ValueError:
        return data


def parse_msg(path: Path, name: str) -> Parsed:
    """Elements of the Outlook message at `path`; its attachments are members. Raises DocumentError: CORRUPT, ENCRYPTED."""
    from oxmsg import Message as OutlookMessage

    message = OutlookMessage.load(str(path))
    headers = message.message_headers
    people = ", ".join(
        f"{r.name} <{r.email_address}>" if r.name and r.name != r.email_address else r.email_address for r in message.recipients
    )
    subject = squeeze(message.subject or "")
    sent = str(message.sent_date or headers.get("Date", ""))
    elements = list(_top(subject, (
        ("From", squeeze(message.sender or "")), ("To", squeeze(people or headers.get("To", ""))), ("Date", sent),
    ), 1))  # fmt: skip
    page = message.properties.binary_prop_value(_PID_HTML)
    # The file's statement about the encoding of its HTML is wrong too often to fail on.
    html = decode_bytes(page, message.properties.body_encoding) if page else message.html_body
    mail = _Mail()
    body = list(_content(html, True, 1, mail.losses)) if html else []
    body = body or list(_content(message.body.replace("\r\n", "\n"), False, 1, mail.losses) if message.body else ())
    if not body and "SMIME" in (message.message_class or "").upper():
        raise DocumentError(Reason.ENCRYPTED, "an encrypted mail")
    elements += body
    for attachment in message.attachments:
        data = attachment.file_bytes
        opened = partial(io.BytesIO, data or b"")
        elements.append(mail.attachment(attachment.file_name or "", attachment.mime_type or "", opened))
        if data is None:
            mail.members.pop()
            mail.losses.add(LossKind.ATTACHMENT, detail=attachment.file_name or "a message or object")
    found = of_mail(subject, message.sender or "", people or headers.get("To", ""), "", sent)
    return Parsed(subject, iter(elements), losses=mail.losses, metadata=found, members=iter(mail.members))

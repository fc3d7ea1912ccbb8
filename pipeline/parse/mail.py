"""Mail: the subject as heading; sender, recipients and date as a paragraph; the body; attachments by name only."""

from __future__ import annotations

import email
import io
from collections.abc import Iterable, Iterator
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.decode import decode_bytes
from pipeline.parse.html import html_parsed
from pipeline.parse.parsed import Parsed, squeeze
from pipeline.parse.plain import paragraphs
from pipeline.types import Element, ElementKind, Reason

_HEADERS = ("From", "To", "Cc", "Date")
#: Maximum depth of messages inside messages.
MAX_FORWARDS = 8
#: Property of an Outlook message that holds its HTML as bytes.
_PID_HTML = 0x1013
_ENCRYPTED_TYPES = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


def parse_eml(path: Path, name: str) -> Parsed:
    """Elements of the mail at `path`. Raises DocumentError (ENCRYPTED) for an encrypted body."""
    with path.open("rb") as file:
        message = email.message_from_binary_file(file)
    if not message.keys():
        raise DocumentError(Reason.CORRUPT, "no mail headers")
    elements = list(_message(message, 1))
    if not any(e.kind is not ElementKind.HEADING for e in elements[2:]) and message.get_content_type() in _ENCRYPTED_TYPES:
        raise DocumentError(Reason.ENCRYPTED, "an encrypted mail")
    return Parsed(_header(message, "Subject"), iter(elements))


def _message(message: Message, level: int) -> Iterator[Element]:
    yield from _top(_header(message, "Subject"), [(name, _header(message, name)) for name in _HEADERS], level)
    yield from _body(message, level)


def _top(subject: str, headers: Iterable[tuple[str, str]], level: int) -> Iterator[Element]:
    if subject:
        yield Element(subject, ElementKind.HEADING, level)
    if text := "\n".join(f"{name}: {value}" for name, value in headers if value):
        yield Element(text)


def _body(part: Message, level: int) -> Iterator[Element]:
    kind = part.get_content_type()
    if part.is_multipart():
        children = [child for child in part.get_payload() if isinstance(child, Message)]
        if kind == "message/rfc822":
            if level < MAX_FORWARDS:
                for child in children:
                    yield from _message(child, level + 1)
        elif kind == "multipart/alternative":
            yield from _best(children, level)
        else:
            for child in children:
                yield from _body(child, level)
        return
    filename = part.get_filename()
    if kind in ("text/plain", "text/html") and part.get_content_disposition() != "attachment":
        yield from _text(part, kind, level)
    elif filename or part.get_content_disposition() == "attachment":
        # The name may be a path that leaves the folder: it is only used as text.
        name = squeeze(_decoded(filename or "").replace("\\", "/").rsplit("/", 1)[-1] or kind) or "without a name"
        yield Element(f"Attachment: {name}", ElementKind.LIST_ITEM)


def _best(children: list[Message], level: int) -> Iterator[Element]:
    """The alternative with the most text: HTML, for its structure, where it holds about as much as the others."""
    found = [(child.get_content_type(), list(_body(child, level))) for child in children]
    sizes = [sum(len(e.text) for e in elements) for _, elements in found]
    most = max(sizes, default=0)
    for (kind, elements), size in zip(found, sizes, strict=True):
        if kind != "text/plain" and 2 * size >= most:
            yield from elements
            return
    yield from next((elements for (_, elements), size in zip(found, sizes, strict=True) if size == most), [])


def _text(part: Message, kind: str, level: int) -> Iterator[Element]:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or not payload.strip():
        return
    text = decode_bytes(payload, part.get_content_charset() or "")
    yield from _content(text, kind == "text/html", level)


def _content(text: str, is_html: bool, level: int) -> Iterator[Element]:
    """The body, with its headings below the subject and without offsets, which would be meaningless inside a mail."""
    found = html_parsed(text).elements if is_html else paragraphs(io.StringIO(text.replace("\r\n", "\n")))
    for e in found:
        yield Element(e.text, e.kind, e.level + level if e.level else 0, header=e.header)


def _header(message: Message, name: str) -> str:
    return _decoded(str(message.get(name) or ""))


def _decoded(value: str) -> str:
    """`value` with its encoded words decoded; unchanged where they are damaged."""
    try:
        return squeeze(str(make_header(decode_header(value))))
    except (ValueError, LookupError):
        return squeeze(value)


def parse_msg(path: Path, name: str) -> Parsed:
    """Elements of the Outlook message at `path`. Raises DocumentError: CORRUPT, ENCRYPTED."""
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
    body = list(_content(html, True, 1)) if html else []
    body = body or list(_content(message.body.replace("\r\n", "\n"), False, 1) if message.body else ())
    if not body and "SMIME" in (message.message_class or "").upper():
        raise DocumentError(Reason.ENCRYPTED, "an encrypted mail")
    elements += body
    for attachment in message.attachments:
        name = squeeze((attachment.file_name or "").replace("\\", "/").rsplit("/", 1)[-1])
        elements.append(Element(f"Attachment: {name or 'without a name'}", ElementKind.LIST_ITEM))
    return Parsed(subject, iter(elements))

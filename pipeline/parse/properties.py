"""The properties that documents of many formats have, under one set of names: author, subject, keywords, language, times, mail."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import getaddresses, parsedate_to_datetime

from pipeline.parse.parsed import squeeze

#: Maximum characters of a value.
MAX_CHARS = 1000

#: Characters at the start of a page in which its properties are looked for.
HEAD_CHARS = 40_000

_PDF_TIME = re.compile(r"(?:D:)?(\d{4})(\d\d)(\d\d)(\d\d)?(\d\d)?(\d\d)?(?:([+-])(\d\d)'?(\d\d)?'?|Z)?")
_META = re.compile(r"<meta\s([^<>]{1,4000})>", re.I)
_ATTRIBUTE = re.compile(r"([a-z-]{1,20})\s{0,5}=\s{0,5}(?:\"([^\"]{0,2000})\"|'([^']{0,2000})')", re.I)
_LANGUAGE = re.compile(r"<html\b[^<>]{0,500}?\slang\s*=\s*[\"']?([A-Za-z0-9-]{2,35})", re.I)

#: Names of a page's meta elements.
_META_NAMES = {
    "author": "author",
    "article:author": "author",
    "dc.creator": "author",
    "keywords": "keywords",
    "dc.subject": "subject",
    "subject": "subject",
    "date": "created",
    "dc.date": "created",
    "dcterms.created": "created",
    "article:published_time": "created",
    "article:modified_time": "modified",
    "dcterms.modified": "modified",
    "last-modified": "modified",
    "dc.language": "language",
    "content-language": "language",
}

#: What a common library writes where its caller names nobody.
_SILENT = ("(anonymous)", "(unspecified)")

#: Names of a PDF's properties.
_PDF_NAMES = {"Author": "author", "Subject": "subject", "Keywords": "keywords", "CreationDate": "created", "ModDate": "modified"}

#: Names of the core properties of Office files, without their namespaces.
_CORE_NAMES = {
    "creator": "author",
    "subject": "subject",
    "keywords": "keywords",
    "language": "language",
    "created": "created",
    "modified": "modified",
}


def properties(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first value of each property that has one; times as ISO 8601, those that are none left out."""
    kept: dict[str, str] = {}
    for name, value in found:
        text = squeeze(value)[:MAX_CHARS]
        text = dated(text) if name in ("created", "modified") else text
        if text and text not in _SILENT:
            kept.setdefault(name, text)
    return kept


def of_pdf(values: Mapping[str, str]) -> dict[str, str]:
    """Properties of a PDF by its own names."""
    return properties((ours, values.get(name) or "") for name, ours in _PDF_NAMES.items())


def of_core(values: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Core properties of an Office file by their names without namespaces."""
    return properties((_CORE_NAMES[name], value) for name, value in values if name in _CORE_NAMES)


def of_page(page: str) -> dict[str, str]:
    """Properties in the head of an HTML page."""
    head = page[:HEAD_CHARS]
    language = _LANGUAGE.search(head)
    found = [("language", language.group(1))] if language else []
    for element in _META.findall(head):
        attributes = {name.lower(): html.unescape(double or single) for name, double, single in _ATTRIBUTE.findall(element)}
        named = attributes.get("name") or attributes.get("property") or attributes.get("http-equiv") or ""
        if ours := _META_NAMES.get(named.lower()):
            found.append((ours, attributes.get("content", "")))
    return properties(found)


def of_mail(subject: str, sender: str, to: str, cc: str, date: str) -> dict[str, str]:
    """Properties of a message: addresses without names, several as a list."""
    people = (("from", sender), ("to", to), ("cc", cc))
    found = [(name, _addresses(text)) for name, text in people]
    return properties([("subject", subject), *found, ("created", date)])


def dated(text: str) -> str:
    """A date or time of PDF, mail or ISO 8601 as the latter; empty for none."""
    try:
        if (pdf := _PDF_TIME.fullmatch(text)) is not None:
            year, month, day, hour, minute, second, sign, east, rest = pdf.groups()
            zone = f"{sign}{east}:{rest or '00'}" if sign else "+00:00"
            text = f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}"
        elif re.match(r"\d{4}-\d\d-\d\d", text) is None:
            text = parsedate_to_datetime(text).isoformat()
        return datetime.fromisoformat(text).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def _addresses(text: str) -> str:
    found = [address for _, address in getaddresses([text[:20_000]]) if "@" in address and not set(address) & set(",[]")]
    return found[0] if len(found) == 1 else f"[{', '.join(found[:100])}]" if found else ""

"""Calendars (iCalendar) and address cards (vCard): each event, task and person as lines of names and values."""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.parse.decode import decode_bytes, open_text
from pipeline.parse.parsed import Losses, Parsed, Share, clean, parts
from pipeline.types import Element, LossKind

_FIELD = re.compile(r"(?:[\w-]{1,60}\.)?([A-Za-z][\w-]{0,60})((?:;(?:\"[^\"]*\"|[^\";:])*+)*+):(.*)", re.S)
_COMMON_NAME = re.compile(r";CN=(?:\"([^\"]{1,200})\"|([^;\":]{1,200}))", re.I)
_CHARSET = re.compile(r";CHARSET=([\w.:-]{2,40})", re.I)
_TYPES = re.compile(r";(?:TYPE=)?\"?([A-Za-z][A-Za-z,-]{0,60})\"?(?=;|$)")
_ESCAPE = re.compile(r"\\(.)", re.S)
_BETWEEN = re.compile(r"(?<!\\);")
#: Fields that only programs read.
_SILENT_NAMES = (
    "VERSION PRODID CALSCALE METHOD UID DTSTAMP SEQUENCE REV TRANSP CLASS CREATED LAST-MODIFIED BEGIN END KEY TRIGGER ACTION"
)
_SILENT = frozenset(_SILENT_NAMES.split())
#: Names of fields as people say them; others keep theirs.
_NAMES = {
    "DTSTART": "Start",
    "DTEND": "End",
    "FN": "Name",
    "N": "Family and given name",
    "TEL": "Phone",
    "ADR": "Address",
    "ORG": "Organization",
    "BDAY": "Birthday",
}
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T(\d\d):?(\d\d)(?::?\d\d)?(Z?))?")
_ZONE = re.compile(r";TZID=\"?([\w/+-]{1,60})", re.I)
_PICTURES = frozenset(("PHOTO", "LOGO", "SOUND"))
#: Fields of several parts, which may be empty.
_OF_PARTS = frozenset(("N", "ADR", "ORG", "GEO", "GENDER"))
#: Parts of a calendar that are read as one; the rules of time zones say nothing to people.
_READ = frozenset(("VEVENT", "VTODO", "VJOURNAL", "VCARD", "VFREEBUSY"))
_ZONES = "VTIMEZONE"
#: Lines that are kept until they are told: a file with such an ending may be no calendar, and have no end of an event.
_MAX_LINES = 500


def parse_cards(path: Path, name: str) -> Parsed:
    """An element for each event, task or person of the calendar or cards at `path`; alarms belong to their event."""
    share, losses = Share(), Losses()
    return Parsed("", _elements(path, share, losses), share, losses)


def _elements(path: Path, share: Share, losses: Losses) -> Iterator[Element]:
    with open_text(path) as file:
        share.follow(file)
        yield from cards_of(file, losses)


def cards_of(lines: Iterable[str], losses: Losses) -> Iterator[Element]:
    """An element for each event, task or person of a calendar or of cards, whose lines end with newlines."""
    told: list[str] = []
    zone = False
    for line in _unfolded(lines):
        if len(told) >= _MAX_LINES:
            yield from parts("\n".join(told))
            told = []
        if (found := _FIELD.match(line)) is None:
            told += [clean(line)] if line.strip() and not zone else []
            continue
        name, parameters, value = found.group(1).upper(), found.group(2), found.group(3)
        part = value.strip().upper()
        if part == _ZONES:
            zone = name == "BEGIN"
        if name in ("BEGIN", "END") and part in _READ:
            yield from parts("\n".join(told))
            told = []
        elif name in _PICTURES:
            losses.add(LossKind.PICTURE, detail=name.lower())
        elif name not in _SILENT and not name.startswith("X-") and not zone:
            told += _told(name, parameters, value)
    yield from parts("\n".join(told))


def _unfolded(lines: Iterable[str]) -> Iterator[str]:
    """Whole fields: a line that begins with a space goes on with the one above, and so does one in quoted-printable after `=`."""
    field: list[str] = []
    for raw in lines:
        line = raw.removesuffix("\n")
        if field and line[:1] in (" ", "\t"):
            field.append(line[1:])
        elif field and field[-1].endswith("=") and "QUOTED-PRINTABLE" in field[0][:200].upper():
            field[-1] = field[-1][:-1]
            field.append(line)
        else:
            if field:
                yield "".join(field)
            field = [line]
    if field:
        yield "".join(field)


def _told(name: str, parameters: str, value: str) -> Iterator[str]:
    """The field as `Name (kinds): value`, if it has a value."""
    if "QUOTED-PRINTABLE" in parameters.upper():
        charset = _CHARSET.search(parameters)
        value = decode_bytes(quopri.decodestring(value.encode("utf-8")), charset.group(1) if charset else "")
    if name in _OF_PARTS:
        value = ", ".join(filter(None, map(str.strip, _BETWEEN.split(value))))
    value = _ESCAPE.sub(lambda found: "\n" if found.group(1) in "nN" else found.group(1), value)
    if date := _DATE.fullmatch(value.strip()):
        value = _date(date, _ZONE.search(parameters))
    value = clean(re.sub(r"^mailto:", "", value, flags=re.I))
    if person := _COMMON_NAME.search(parameters):
        value = f"{person.group(1) or person.group(2)} <{value}>"
    kinds = ", ".join(kind.lower() for kind in _TYPES.findall(parameters) if kind.upper() != "QUOTED-PRINTABLE")
    told = _NAMES.get(name, name.capitalize())
    if value:
        yield f"{told} ({kinds}): {value}" if kinds else f"{told}: {value}"


def _date(found: re.Match[str], zone: re.Match[str] | None) -> str:
    """A date, or a date and time with its zone, as people search for them."""
    year, month, day, hour, minute, utc = found.groups()
    if hour is None:
        return f"{year}-{month}-{day}"
    return f"{year}-{month}-{day} {hour}:{minute}" + (" UTC" if utc else f" {zone.group(1)}" if zone else "")

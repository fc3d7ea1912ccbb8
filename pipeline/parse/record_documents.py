"""The records of a file as documents: each has an id, a title, a text, and metadata of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.filters import Bare
from pipeline.metadata import MAX_LIST, MAX_VALUE_CHARS, Given, Raw, record_field_name
from pipeline.parse import kinds
from pipeline.parse.parsed import Losses, Parsed, Share, clean, pieces, squeeze
from pipeline.parse.record_files import RawRecord, raw_records
from pipeline.parse.records import TITLE_KEYS, flat
from pipeline.types import MAX_RECORD_ID_CHARS, Element, ElementKind, LossKind, RecordFields

#: The most records of one file that become documents.
MAX_RECORDS = 1_000_000

#: A longer text is no title.
MAX_TITLE_CHARS = 200

#: Fields that are the id where none was chosen, in small letters.
_IDS = ("id", "_id")
_TITLES = (*TITLE_KEYS, "summary")


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A record that becomes a document."""

    id: str
    content: str  #: JSON, read by `parse_record`
    given: str  #: its metadata, as `Given` writes it


@dataclass(slots=True)
class Records:
    """The records of a file that become documents; read once."""

    raw: Iterator[RawRecord]
    media_type: str
    fields: RecordFields
    share: Share
    losses: Losses = field(default_factory=Losses)  #: complete when the records are exhausted
    whole: bool = True  #: whether every record could be read; a record that is missing then no longer exists
    _places: dict[bytes, str] = field(default_factory=dict)  #: places of the ids so far, by a digest
    _found: set[str] = field(default_factory=set)  #: chosen fields that a record had

    def __iter__(self) -> Iterator[RecordDocument]:
        for raw in self.raw:
            if raw.fields is None:
                self._leave_out(raw.place, raw.why)
            elif len(self._places) >= MAX_RECORDS:
                self._leave_out("at the end", f"a file may have {MAX_RECORDS:,} records")
            elif (document := self._document(raw.place, raw.fields)) is not None:
                yield document
        for name in dict.fromkeys((*self.fields.text, *self.fields.metadata)):
            if self._places and name not in self._found:
                self.losses.add(LossKind.UNREADABLE_PART, f"field {name}", "no record has it")

    def _leave_out(self, place: str, why: str) -> None:
        self.losses.add(LossKind.RECORD, place, why)
        self.whole = False

    def _document(self, place: str, record: dict[str, Any]) -> RecordDocument | None:
        key, why = self._id(record)
        if why:
            self.losses.add(LossKind.RECORD, place, why)
            return None
        before = self._places.setdefault(hashlib.blake2b(key.encode(), digest_size=16).digest(), place)
        if before != place:
            self.losses.add(LossKind.RECORD, place, f"it has the id of {before}, {key[:40]!r}")
            return None
        title, heading, text = self._text(record)
        if not (text or heading):
            self.losses.add(LossKind.RECORD, place, f"it has no text in {', '.join(self.fields.text) or 'any field'}")
            return None
        content = {"media_type": self.media_type, "title": title, "heading": heading, "text": text}
        return RecordDocument(key, json.dumps(content, sort_keys=True), self._given(record))

    def _id(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """The id of a record, or why it has none."""
        name = self.fields.id or next((name for name in record if name.lower() in _IDS), "")
        value = _value(record, name) if name else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = repr(value)
        found = squeeze(value) if isinstance(value, str) else ""
        if not found and not self.fields.id:
            found = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
        if len(found) > MAX_RECORD_ID_CHARS:
            return "", f"its id is longer than {MAX_RECORD_ID_CHARS} characters"
        return found, "" if found else f"it has no id in {name}"

    def _text(self, record: Mapping[str, Any]) -> tuple[str, bool, str]:
        """The title of a record, whether that is part of its text, and the rest of the text."""
        named = next((name for key in _TITLES for name in record if name.lower() == key and _is_title(record[name])), "")
        title, wanted = squeeze(record[named]) if named else "", self.fields.text
        if not wanted:
            names = [name for name in record if name != named and name not in self.fields.metadata]
            return title, bool(named), "\n".join(line for name in names for line in flat(record[name], name))
        parts = []
        for name in wanted:
            value = _value(record, name)
            if value is not None:
                self._found.add(name)
                if name != named:
                    parts.append("\n".join(flat(value, "" if isinstance(value, str) else name)))
        return title, named in wanted, "\n\n".join(filter(None, parts))

    def _given(self, record: Mapping[str, Any]) -> str:
        """The chosen metadata of a record; what cannot be stored is named."""
        found: dict[str, Raw] = {}
        wrong = []
        for path in self.fields.metadata:
            value = _value(record, path)
            if value is None:
                continue
            self._found.add(path)
            name = record_field_name(path)
            if why := _why_not_stored(value):
                wrong.append(f"{name}: {why}")
            else:
                found[name] = Bare(value) if self.media_type in (kinds.CSV, kinds.TSV) else value
        return str(Given(record=found, wrong=tuple(wrong)))


def records_of(path: Path, media_type: str, fields: RecordFields) -> Records | None:
    """The records of the file at `path` as documents, lazily; None for a file that does not consist of records.

    Raises DocumentError (corrupt), here or while the records are read, for a damaged array.
    """
    share = Share()
    raw = raw_records(path, media_type, share, fields.array)
    return Records(raw, media_type, fields, share) if raw is not None else None


def parse_record(path: Path, name: str) -> Parsed:
    """The document that a record became, with the media type of the file that it is from; `path` has its `content`."""
    record = json.loads(path.read_bytes())
    return Parsed(str(record["title"]), _elements(record), media_type=str(record["media_type"]))


def _elements(record: Mapping[str, Any]) -> Iterator[Element]:
    if record["heading"]:
        yield Element(str(record["title"]), ElementKind.HEADING, 1)
    text = clean(str(record["text"]))
    for first, last in pieces(text):
        if part := text[first:last].strip():
            yield Element(part)


def _value(record: Mapping[str, Any], path: str) -> Any:
    """The value of a field, which may be inside of objects; None where it is missing."""
    if path in record:
        return record[path]
    found: Any = record
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _is_title(value: object) -> bool:
    return isinstance(value, str) and 0 < len(squeeze(value)) <= MAX_TITLE_CHARS


def _why_not_stored(value: object) -> str:
    """Why a value cannot be metadata; empty if it can."""
    several = value if isinstance(value, list) else [value]
    plain = all(isinstance(one, str | bool | int) or (isinstance(one, float) and math.isfinite(one)) for one in several)
    if not plain:
        return "only texts, numbers, truth values and lists of them can be stored"
    if len(several) > MAX_LIST or any(isinstance(one, str) and len(one) > MAX_VALUE_CHARS for one in several):
        return f"a text has up to {MAX_VALUE_CHARS:,} characters, a list up to {MAX_LIST} texts"
    return ""

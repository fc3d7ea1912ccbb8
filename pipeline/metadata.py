"""Metadata of documents: where it comes from, which names and sizes it may have, and how its values get their types."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from pipeline.filters import FILTER_KEYS, Bare, FieldType, Types, field_name
from pipeline.filters.binding import MAX_INTEGER, instant, typed
from pipeline.text import well_formed
from pipeline.types import MetadataValue, RecordFields, SourceFile

#: Limits for one document: fields, characters of a name and of a text, texts in a list.
MAX_FIELDS, MAX_NAME_CHARS, MAX_VALUE_CHARS, MAX_LIST = 64, 64, 1000, 100

#: Names that documents and points have already, and words of the filter language.
RESERVED = frozenset(
    (
        *FILTER_KEYS,
        "title",
        "content_hash",
        "text",
        "heading_path",
        "ordinal",
        "page_first",
        "page_last",
        "char_start",
        "char_end",
        "metadata",
        "fields",
        "and",
        "or",
        "not",
    )
)

#: Fields that documents have of themselves, whose types do not depend on the first value seen.
KNOWN_TYPES: Types = {
    **dict.fromkeys(("author", "subject", "language", "keywords", "from", "to", "cc", "git_commit", "git_path"), FieldType.KEYWORD),
    **dict.fromkeys(("created", "modified"), FieldType.DATETIME),
}

#: A value before it has a type: a text of a command line, table or document (Bare), or a value of JSON.
Raw: TypeAlias = "Bare | str | int | float | bool | Sequence[Raw] | None"

_NAME = re.compile(r"[^\W\d][\w-]*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}\S*)?")


@dataclass(frozen=True, slots=True)
class Given:
    """The metadata that a load gives a document, as the ledger keeps it."""

    option: Mapping[str, Raw] = field(default_factory=dict)  #: of `--meta`; stays until another load names the field
    file: Mapping[str, Raw] = field(default_factory=dict)  #: of a file beside the document, or of its place
    times: Mapping[str, str] = field(default_factory=dict)  #: of the file; they count where nobody else names such a time
    wrong: tuple[str, ...] = ()  #: what of these could not be read
    records: RecordFields | None = None  #: how its records are documents; None: they are not
    record: Mapping[str, Raw] | None = None  #: of the record that the document is; None: it is none

    def __str__(self) -> str:
        """As JSON, the same for the same metadata; empty for none."""
        plain = {
            "option": _plain(self.option),
            "file": _plain(self.file),
            "times": dict(self.times),
            "wrong": list(self.wrong),
        }
        kept: dict[str, object] = {name: value for name, value in plain.items() if value}
        if self.records is not None:
            kept["records"] = fields_as_json(self.records)
        if self.record is not None:
            kept["record"] = _plain(self.record)
        return json.dumps(kept, sort_keys=True) if kept else ""

    @classmethod
    def read(cls, text: str) -> Given:
        """The metadata from its JSON."""
        if not text:  # most documents have none
            return cls()
        kept = json.loads(text)
        parts = ("option", "file", "record")
        option, file, record = ({name: _raw(value) for name, value in kept.get(part, {}).items()} for part in parts)
        records = fields_from_json(kept["records"]) if "records" in kept else None
        times, wrong = dict(kept.get("times", {})), tuple(kept.get("wrong", ()))
        return cls(option, file, times, wrong, records, record if "record" in kept else None)

    def parse_fingerprint(self, usual: str) -> str:
        """The parse fingerprint of the document, where `usual` is that of documents whose bytes alone decide their chunks."""
        if self.records is None and self.record is None:
            return usual
        usual = usual.partition("-")[0]  # OCR reads no record
        identity = [usual, "record" if self.records is None else fields_as_json(self.records)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[: len(usual)]


def fingerprints(usual: str) -> tuple[str, str]:
    """The parse fingerprints of documents with pages without text, and of those without: OCR has no say in the latter.

    `usual` is that of the former: what holds for all documents, a hyphen, and what holds for OCR.
    """
    return usual, usual.partition("-")[0]


def fields_as_json(fields: RecordFields) -> dict[str, object]:
    """The fields of records as JSON has them; read by `fields_from_json`."""
    kept: dict[str, object] = {
        "id": fields.id,
        "text": list(fields.text),
        "metadata": list(fields.metadata),
        "wanted": fields.wanted,
    }
    return kept | ({"array": fields.array} if fields.array else {})  # the fingerprint of files without one stays


def fields_from_json(kept: Mapping[str, Any]) -> RecordFields:
    """The fields of records that `fields_as_json` wrote."""
    return RecordFields(kept["id"], tuple(kept["text"]), tuple(kept["metadata"]), kept["wanted"], kept.get("array", ""))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Metadata with types, ready to be stored."""

    values: Mapping[str, MetadataValue]
    left_out: tuple[tuple[str, str], ...] = ()  #: names, and why their values are not stored


def gathered(properties: Mapping[str, str], given: Given) -> dict[str, Raw]:
    """All metadata of a document: that of `--meta` before that of files beside it, its record's, its own, and its file's times."""
    own = {name: Bare(text) if name == "subject" else _listed(text) for name, text in properties.items() if is_name(name)}
    found = {**own, **(given.record or {}), **given.file, **given.option}
    return {**found, **{name: time for name, time in given.times.items() if name not in found}}


def file_times(file: SourceFile) -> dict[str, str]:
    """The times of a file as metadata, in whole seconds; those that cannot be written as a date are left out."""
    found = {}
    for name, seconds in (("created", file.created), ("modified", file.modified)):
        with suppress(ValueError, OverflowError, OSError):
            if seconds is not None:
                found[name] = written(datetime.fromtimestamp(int(seconds), UTC))
    return found


def is_name(name: str) -> bool:
    """Whether a field may have this name."""
    return bool(_NAME.fullmatch(name)) and len(name) <= MAX_NAME_CHARS and name not in RESERVED


def record_field_name(path: str) -> str:
    """The name of the metadata that has the value of a field of records; the path of one inside an object is joined by `_`."""
    return field_name(path).replace(".", "_")


def why_not(name: str) -> str:
    """Why a field cannot have this name; empty if it can."""
    if name in RESERVED:
        return "the name is taken by kb-ingest"
    return "" if is_name(name) else f"a name has up to {MAX_NAME_CHARS} letters, digits, _ and -, and begins with a letter"


def new_types(raw: Mapping[str, Raw], types: Types) -> Types:
    """Types for the fields that have none yet, by their values."""
    found = {name: KNOWN_TYPES.get(name) or _kind(value) for name, value in raw.items() if name not in types and is_name(name)}
    return {name: kind for name, kind in found.items() if kind is not None}


def fit(raw: Mapping[str, Raw], types: Types) -> Fitted:
    """The values as those of their fields' types; those that do not fit are left out and named."""
    values: dict[str, MetadataValue] = {}
    left_out = []
    for name, value in raw.items():
        why = why_not(name)
        if not why and len(values) >= MAX_FIELDS:
            why = f"a document has up to {MAX_FIELDS} fields"
        if not why and value is not None and value not in ("", Bare(""), [], ()):
            why = _put(values, name, value, types.get(name))
        if why:
            left_out.append((name, why))
    return Fitted(values, tuple(left_out))


def _put(values: dict[str, MetadataValue], name: str, value: Raw, kind: FieldType | None) -> str:
    """Store a value; or say why it cannot be."""
    if kind is None:
        return "its values have no type that can be stored"
    if kind is FieldType.KEYWORD:
        texts = [_text(one) for one in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])]
        if None in texts:
            return "only texts, numbers, truth values and lists of them can be stored"
        if len(texts) > MAX_LIST or any(len(text or "") > MAX_VALUE_CHARS for text in texts):
            return f"a text has up to {MAX_VALUE_CHARS:,} characters, a list up to {MAX_LIST} texts"
        found = tuple(text for text in cast("list[str]", texts) if text)
        if found:
            values[name] = found if isinstance(value, Sequence) and not isinstance(value, str) else found[0]
        return ""
    plain = value.text if isinstance(value, Bare) else value
    fitting = typed(plain, kind, reads_text=isinstance(value, Bare))
    if fitting is None:
        shown = _text(value)
        return f"the field is {kind.value} in this collection, and {_short(shown) if shown is not None else 'a list'} is not"
    values[name] = written(fitting) if isinstance(fitting, datetime) else fitting
    return ""


def shown(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def written(moment: datetime) -> str:
    """A time as it is stored: in UTC, so that texts compare as times do."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _kind(value: Raw) -> FieldType | None:
    """The type of a value that is the first of its field."""
    if isinstance(value, bool):
        return FieldType.BOOL
    if isinstance(value, int):
        return FieldType.INTEGER if abs(value) <= MAX_INTEGER else None
    if isinstance(value, float):
        return FieldType.FLOAT
    if isinstance(value, str):
        return FieldType.DATETIME if _is_time(value) else FieldType.KEYWORD
    if isinstance(value, Bare):
        text = value.text.strip()
        if text.lower() in ("true", "false"):
            return FieldType.BOOL
        if _INTEGER.fullmatch(text) and abs(int(text)) <= MAX_INTEGER:
            return FieldType.INTEGER
        if _FLOAT.fullmatch(text):
            return FieldType.FLOAT
        return FieldType.DATETIME if _is_time(text) else FieldType.KEYWORD
    return FieldType.KEYWORD if value else None


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text)) and instant(text) is not None
    except (ValueError, OverflowError):
        return False


def _text(value: Raw) -> str | None:
    """A single value as a text without what databases cannot hold; None for a list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    text = value.text if isinstance(value, Bare) else value
    return well_formed(text).replace("\0", "\ufffd").strip() if isinstance(text, str) else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _listed(text: str) -> Raw:
    """A value of a document, which may be a list on one line."""
    inner = text.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        return Bare(text)
    return [Bare(part.strip().strip("'\"")) for part in inner[1:-1].split(",") if part.strip()]


def _plain(fields: Mapping[str, Raw]) -> dict[str, object]:
    return {name: _coded(value) for name, value in fields.items()}


def _coded(value: Raw) -> object:
    if isinstance(value, Bare):
        return {"bare": value.text}
    return [_coded(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _raw(value: object) -> Raw:
    if isinstance(value, dict):
        return Bare(str(value.get("bare", "")))
    return [_raw(one) for one in value] if isinstance(value, list) else cast("Raw", value)

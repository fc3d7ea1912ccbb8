"""Decides which pages of a website need not be asked for again, by what its list says and what was kept of their last answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.types import SourceFile

DAY_S = 86_400.0

#: Maximum characters of a validator that is kept.
MAX_VALIDATOR_CHARS = 500

#: Seconds from a page's lastmod on in which it may change again without another lastmod: a cache still had the page before it,
#: or it is changed twice within what the list rounds to. A day alone has no time zone either, and some lists name it as midnight
#: somewhere, which is a multiple of _QUARTER_S everywhere.
_SETTLED_S, _SETTLED_DAY_S, _QUARTER_S = 3600.0, 2 * DAY_S, 900.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a page's last answer, as JSON in `SourceFile.validators`."""

    etag: str = ""
    last_modified: str = ""
    lastmod: float | None = None  #: what the list said then, in seconds since the epoch
    asked_at: float = 0.0  #: seconds since the epoch; 0 without a lastmod, and where an earlier version kept the answer
    misled: bool = False  #: the page had changed although its lastmod had not

    @classmethod
    def read(cls, text: str) -> Answer:
        """Decode; also what earlier versions kept."""
        kept = json.loads(text) if text else {}
        return cls(**{name: kept[key] for name, key in _KEYS.items() if key in kept})

    def __str__(self) -> str:
        return json.dumps({_KEYS[name]: value for name, value in asdict(self).items() if value}, sort_keys=True)

    @property
    def conditions(self) -> dict[str, str]:
        """The header fields by which the server says that nothing has changed."""
        told = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in told.items() if value}


#: Names in JSON: those of the header fields, as earlier versions have them.
_KEYS = {"etag": "etag", "last_modified": "last-modified", "lastmod": "lastmod", "asked_at": "asked", "misled": "misled"}


def answered(file: SourceFile, headers: Mapping[str, str], now: float, *, changed: bool) -> str:
    """What to keep of an answer: `file` has the lastmod that the list says now, and what was kept before.

    `changed`: its content is not the one that was loaded before.
    """
    before = Answer.read(file.validators)
    is_same = file.modified is not None and file.modified == before.lastmod
    etag, last_modified = (_validator(headers, name) for name in ("etag", "last-modified"))
    if not changed:  # an answer without content need not repeat them
        etag, last_modified = etag or before.etag, last_modified or before.last_modified
    asked_at = 0.0 if file.modified is None else float(int(now))
    return str(Answer(etag, last_modified, file.modified, asked_at, is_same and (changed or before.misled)))


def is_fresh(file: SourceFile, validators: str, check_s: float, now: float) -> bool:
    """Whether the list says of a page that it is as it was when it was asked for, and that was not too long ago.

    Each page is asked for once in `check_s` seconds at least, whatever the list says. The pages of a website, which were all
    asked for on one day, are spread over the second half of that time.
    """
    kept = Answer.read(validators)
    at = file.modified
    if at is None or kept.lastmod != at or kept.misled:
        return False
    settled_at = at + (_SETTLED_S if at % _QUARTER_S else _SETTLED_DAY_S)
    share = int.from_bytes(hashlib.sha256(file.uri.encode()).digest()[:4]) / (1 << 32)
    return settled_at <= kept.asked_at <= now < kept.asked_at + check_s * (1 + share) / 2


def _validator(headers: Mapping[str, str], name: str) -> str:
    """What a server wants to hear when the page is asked for again; empty where it says none that can be sent back."""
    told = headers.get(name, "")
    return told if told.isascii() and told.isprintable() and len(told) <= MAX_VALIDATOR_CHARS else ""

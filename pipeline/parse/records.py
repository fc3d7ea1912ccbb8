"""JSON and JSON lines as readable lines `key.path: value`, one record at a time; two records never share a chunk."""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.parse.decode import open_text, read_text
from pipeline.parse.html import bare_text
from pipeline.parse.parsed import Parsed, Share, clean, pieces, squeeze
from pipeline.parse.source import parse_source
from pipeline.types import Element

#: A longer record continues in the next element.
MAX_RECORD_CHARS = 2_000
#: Fields that are the title of a record.
TITLE_KEYS = ("title", "name", "subject")
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
# After a word, `<p>` is a parameter of a type: `List<p>`.
_TAG = re.compile(r"</[A-Za-z]|(?:<(?:br|hr|img|div)|(?<!\w)<(?:p|li|td))(?:[\s/][^<>]{0,2000})?>", re.I)
_ESCAPED_PAGE = re.compile(r"\s{0,99}<(?:p|div|ul|ol|table|h[1-6])(?:[\s/][^<>]{0,2000})?>", re.I)
#: Elements that a page does not show; where they were written as text, they are what the text is about.
_UNSEEN = re.compile(
    r"<(?=/?(?:script|style|template|head|noscript|svg|iframe|object|select|textarea|button|noembed|noframes|annotation)\b)", re.I
)


class _Number(str):
    """A number with a fraction as the file writes it: 19.90, or more digits than a float has."""

    __slots__ = ()


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; a key that it has several times has the list of its values."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    values: dict[str, list[object]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: same if len(same) > 1 else same[0] for key, same in values.items()}


_DECODER = json.JSONDecoder(parse_float=_Number, object_pairs_hook=_object)


def parse_json(path: Path, name: str) -> Parsed:
    """Records of the JSON file at `path`; content that is not JSON, or is nested too deeply, becomes plain text."""
    try:
        value = _DECODER.decode(read_text(path).removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        with open_text(path) as file:
            second = [line for line in (file.readline(1 << 20), file.readline(1 << 20)) if line.strip()]
        return parse_json_lines(path, name) if len(second) == 2 and all(map(_is_record, second)) else parse_source(path, name)
    title = (
        next((squeeze(str(value[k])) for k in TITLE_KEYS if isinstance(value.get(k), str)), "") if isinstance(value, dict) else ""
    )
    share = Share()
    return Parsed(title[:200], _records(value, share), share)


def parse_json_lines(path: Path, name: str) -> Parsed:
    """Records of the file at `path`, one per line, streamed; a line that is not JSON stays unchanged."""
    share = Share()
    return Parsed("", _lines(path, share), share)


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _lines(path: Path, share: Share) -> Iterator[Element]:
    """Each value is a record; lines that are none, such as those of an object over several lines, are one record together."""
    number, broken = 0, False
    with open_text(path) as file:
        share.follow(file)
        for line in file:
            if line.isspace():
                continue
            try:
                value = _DECODER.decode(line)
            except (ValueError, RecursionError):
                number += not broken
                value, broken = line, True
            else:
                number, broken = number + 1, False
            yield from _grouped(flat(value, ""), number)


def _records(value: object, share: Share) -> Iterator[Element]:
    """The items of a list of objects are records, also those of such a list in an object; the rest of that is one record."""
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            share.count(number, len(value))
            yield from _grouped(flat(item, ""), number)
    elif isinstance(value, dict):
        plain = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
        yield from _grouped(flat(plain, ""), 0)
        numbers = itertools.count(1)
        for key, member in value.items():
            if isinstance(member, list) and any(isinstance(item, dict | list) for item in member):
                for item in member:
                    yield from _grouped(flat(item, key), next(numbers))
            elif isinstance(member, dict | list):
                yield from _grouped(flat(member, key), 0)
    else:
        yield from _grouped(flat(value, ""))


def flat(value: object, path: str) -> Iterator[str]:
    """Lines `path: text` of `value`, depth first; uses a stack instead of recursion, so that depth costs nothing."""
    stack: list[tuple[str, object]] = [(path, value)]
    while stack:
        path, value = stack.pop()
        match value:
            case dict():
                stack.extend((f"{path}.{key}" if path else str(key), member) for key, member in reversed(value.items()))
            case list() if value and all(isinstance(item, int | float | _Number) or item is None for item in value):
                yield f"{path}: {', '.join(map(_shown, value))}" if path else ", ".join(map(_shown, value))
            case list() if value and all(isinstance(item, str) and not isinstance(item, _Number) for item in value):
                # Notebooks store a text as a list of lines.
                joint = ", " if sum(map(len, value)) < 200 else "\n"
                yield from _text(path, ("" if any(item.endswith("\n") for item in value) else joint).join(value))
            case list():
                stack.extend((path, item) for item in reversed(value))
            case str():
                yield from _text(path, value)
            case None:
                pass
            case _:
                yield f"{path}: {_shown(value)}" if path else _shown(value)


def _text(path: str, value: str) -> Iterator[str]:
    if "&" in value and "<" not in value and _ENTITY.search(value):
        value = _ENTITY.sub(lambda found: html.unescape(found.group()), value)
        if "</" in value and _ESCAPED_PAGE.match(value):
            value = bare_text(_UNSEEN.sub("&lt;", value))[0]
    elif "<" in value and _TAG.search(value):  # a page of a content management system
        value = bare_text(value)[0]
    if text := clean(value):
        yield f"{path}: {text}" if path else text


def _shown(value: object) -> str:
    if isinstance(value, _Number):
        return value
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # as JSON writes it, in a fraction of the time
    return json.dumps(value)


def _grouped(lines: Iterator[str], record: int | None = None) -> Iterator[Element]:
    block: list[str] = []
    length = 0
    for line in lines:
        if block and length + len(line) > MAX_RECORD_CHARS:
            yield from _emit("\n".join(block), record)
            block, length = [], 0
        block.append(line)
        length += len(line) + 1
    yield from _emit("\n".join(block), record)


def _emit(text: str, record: int | None) -> Iterator[Element]:
    text = clean(text)
    for first, last in pieces(text):
        if part := text[first:last].strip():
            yield Element(part, record=record)

"""Reads a filter that is written as text: `year >= 2020 and team in (a, b) and not draft = true`."""

from __future__ import annotations

import re

from pipeline.errors import FilterError
from pipeline.filters.tree import FILTER_KEYS, All, Bare, Condition, Either, Node, Not, Op, Value, equals, field_name

#: Limits of a filter: characters, conditions, parentheses inside each other, values of a list.
MAX_CHARACTERS, MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES = 10_000, 200, 50, 500

_SPACE = re.compile(r"\s+")
_NAME = re.compile(r"[^\W\d][\w-]*")
_SIGN = re.compile(r"!=|<=|>=|=|<|>|~")
_BARE = re.compile(r"""[^\s(),"'=<>!~][^\s(),"']*""")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|' r"'(?:[^'\\]|\\.)*'", re.DOTALL)
#: A field and a value without spaces between them, as all filters were before there was a language: the value is the rest.
_PAIR = re.compile(rf"({'|'.join(FILTER_KEYS)})=(?![\s\"'=])(.*)", re.DOTALL)
#: What a further condition begins like, which no rest of a pair may contain.
_FURTHER = re.compile(r"\s(?:and|or)\s+(?:not\b|\(|[^\W\d][\w-]*\s*(?:[=<>~!]|(?:in|not|exists|missing)\b))", re.IGNORECASE)


def parse(text: str) -> Node:
    """The tree of a filter. Raises FilterError with the position of what cannot be read."""
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"the filter has {len(text):,} characters; up to {MAX_CHARACTERS:,} are allowed")
    try:
        return _Reader(text).whole()
    except FilterError:
        pair = _PAIR.fullmatch(text)
        if pair is None or _FURTHER.search(pair[2]):
            raise
        return equals(pair[1], Bare(pair[2]), "")


class _Reader:
    """Reads by recursive descent; `or` binds less than `and`, `and` less than `not`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._conditions = self._depth = 0

    def whole(self) -> Node:
        self._space()
        if self._at == len(self._text):
            raise FilterError("the filter is empty")
        found = self._either()
        if self._at < len(self._text):
            raise self._error("`and`, `or` or the end")
        return found

    def _either(self) -> Node:
        parts = [self._all()]
        while self._word("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _all(self) -> Node:
        parts = [self._not()]
        while self._word("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _not(self) -> Node:
        negated = False
        while self._word("not"):
            negated = not negated
        found = self._inner() if self._sign("(") else self._condition()
        return Not(found) if negated else found

    def _inner(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"no more than {MAX_DEPTH} parentheses inside each other")
        found = self._either()
        if not self._sign(")"):
            raise self._error("`and`, `or` or `)`")
        self._depth -= 1
        return found

    def _condition(self) -> Node:
        place = f"character {self._at + 1}"
        name = self._taken(_NAME.match(self._text, self._at))
        if not name or name.lower() in ("and", "or"):
            self._at -= len(name)
            raise self._error("a field")
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise self._error(f"no more than {MAX_CONDITIONS} conditions")
        self._space()
        return self._compared(field_name(name), place)

    def _compared(self, name: str, place: str) -> Node:
        if self._word("exists"):
            return Condition(name, Op.EXISTS, (), place)
        if self._word("missing"):
            return Not(Condition(name, Op.EXISTS, (), place))
        if self._word("not"):
            if not self._word("in"):
                raise self._error("`in`")
            return Not(Condition(name, Op.IN, self._list(), place))
        if self._word("in"):
            return Condition(name, Op.IN, self._list(), place)
        sign = self._taken(_SIGN.match(self._text, self._at))
        self._space()
        if not sign:
            raise self._error("=, !=, <, <=, >, >=, ~, in, not in, exists or missing")
        start, value = self._at, self._value()
        if sign == "~":
            return Condition(name, Op.BEGINS, (self._prefix(value, start),), place)
        if sign in ("=", "!="):
            found = equals(name, value, place)
            return found if sign == "=" else Not(found)
        return Condition(name, Op(sign), (value,), place)

    def _prefix(self, value: Value, start: int) -> str:
        text = value.text if isinstance(value, Bare) else str(value)
        if not text.endswith("*") or "*" in text[:-1]:
            self._at = start
            raise self._error("a pattern with one `*`, at its end")
        return text[:-1]

    def _list(self) -> tuple[Value, ...]:
        if not self._sign("("):
            raise self._error("`(` and a list of values")
        values = [self._value()]
        while self._sign(","):
            values.append(self._value())
            if len(values) > MAX_VALUES:
                raise self._error(f"no more than {MAX_VALUES} values")
        if not self._sign(")"):
            raise self._error("`,` or `)`")
        return tuple(values)

    def _value(self) -> Value:
        if quoted := self._taken(_QUOTED.match(self._text, self._at)):
            self._space()
            return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)
        bare = self._taken(_BARE.match(self._text, self._at))
        if not bare:
            raise self._error("a value")
        self._space()
        return Bare(bare)

    def _word(self, word: str) -> bool:
        end = self._at + len(word)
        if self._text[self._at : end].lower() != word or re.match(r"[\w-]", self._text[end : end + 1]):
            return False
        self._at = end
        self._space()
        return True

    def _sign(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        self._space()
        return True

    def _taken(self, found: re.Match[str] | None) -> str:
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _space(self) -> None:
        self._taken(_SPACE.match(self._text, self._at))

    def _error(self, expected: str) -> FilterError:
        rest = self._text[self._at :]
        found = f"{rest[:20]!r}" if rest else "the end"
        return FilterError(f"the filter cannot be read at character {self._at + 1}: expected {expected}, found {found}")

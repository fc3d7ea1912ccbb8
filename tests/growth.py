"""Strings of growing length built from a regular expression, and the factor by which a call slows down on twice the length."""

from __future__ import annotations

import math
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from re import _constants as c  # type: ignore[attr-defined, unused-ignore]  # unused where mypy has read hypothesis before
from re import _parser  # type: ignore[attr-defined, unused-ignore]
from typing import Any

#: Length of the longest string. Anything quadratic exceeds `FLOOR_S` on it, even where only one character in twenty starts a match.
MAX_CHARS = 1 << 13
#: Processor time below which nothing is compared: linear patterns stay below it at `MAX_CHARS`.
FLOOR_S = 0.005
#: Processor time after which a call is interrupted: an exponential one never ends.
LIMIT_S = 0.1
#: Processor time for which a suspect is measured again and again; the minimum counts.
SUSPECT_S = 0.5
#: A suspect is cleared as soon as its factor is below this one.
CLEAR = 2.5
#: A repetition of fewer is no family of its own.
MIN_REPEATS = 8
#: Strings that one piece of a pattern is sampled by.
SAMPLES = 5
#: Characters that a class of characters is sampled by.
CHARS = 24

_FREQUENT = " \n\ta1-.:"
_COMMON = "A_,<>\"'`(|*=\\é日"
_SUFFIXES = ("", "\0")
_CHARACTERS = " \n\ta1-=|[(){}'\"\\`:*_#~.@&%$<>é日。\0\x0b\xa0\u2028"
_WORDS = (
    '<!-- --> <a> </a> <a <?xml <?xml> <!--x--> 1, 1. 12:30 1e1 +- |a [a ]( [a]( \'a\' "a" \\\\ \\" `` `a `a` :: :a:` a. a.b a- '
    "a-b. a@b. :// http://a/ ?a= &amp; %20 日a ab1_"
)
_LINES = " |  |\r|a|  a|..|---|===|a: b|    a: b|A: b\n  c: d|A:\n  |<!-- x -->"
_UNITS = (
    *_CHARACTERS,
    *_WORDS.split(),
    *(f"{word} " for word in ("a", "1", "-", "=", "|", ".", "#", "..", "日", "\0", "<!-- x -->", "<?xml", '<a b="c"')),
    *(f"{line}\n" for line in _LINES.split("|")),
)


@dataclass(frozen=True, slots=True)
class Family:
    """Strings of any length that repeat one unit."""

    prefix: str
    unit: str
    suffix: str

    def text(self, chars: int) -> str:
        """The string of about `chars` characters."""
        return self.prefix + self.unit * max(1, chars // len(self.unit)) + self.suffix

    def binary(self, chars: int) -> bytes:
        """The same for a pattern of bytes."""
        return self.text(chars).encode()


GENERIC = [Family("", unit, suffix) for unit in _UNITS for suffix in ("", "\0")]


def families(pattern: re.Pattern[Any]) -> list[Family]:
    """The generic ones, and for each repetition in `pattern` some that it matches, after a match of the part before it."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    found = dict.fromkeys(GENERIC)
    sampler = _Sampler(tree)
    for before, body in _repetitions(list(tree), []):
        starts = [sampler.text(before, seed) for seed in range(2)]
        for unit in sampler.units(body):
            for suffix in _SUFFIXES:
                found.update(dict.fromkeys(Family(start, unit, suffix) for start in starts))
                found.update(dict.fromkeys(Family("", start + unit, suffix) for start in starts))
        found.update(dict.fromkeys(Family("", start, "") for start in starts if start))
    return list(found)


def _repetitions(nodes: Sequence[Any], before: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Each repetition below `nodes`: the nodes before it and the nodes that it repeats."""
    for place, (op, value) in enumerate(nodes):
        above = [*before, *nodes[:place]]
        match op:
            case c.MAX_REPEAT | c.MIN_REPEAT | c.POSSESSIVE_REPEAT:
                _, most, body = value
                if most >= MIN_REPEATS:
                    yield above, list(body)
                yield from _repetitions(list(body), above)
            case c.SUBPATTERN:
                yield from _repetitions(list(value[-1]), above)
            case c.ATOMIC_GROUP:
                yield from _repetitions(list(value), above)
            case c.BRANCH:
                for branch in value[1]:
                    yield from _repetitions(list(branch), above)
            case c.ASSERT | c.ASSERT_NOT:
                yield from _repetitions(list(value[1]), above)


class _Sampler:
    """Strings that match pieces of one pattern."""

    def __init__(self, tree: Any) -> None:
        literals = sorted(set(_literals(list(tree))))
        self._pool = list(dict.fromkeys([*_FREQUENT, *literals, *_COMMON]))

    def units(self, body: Sequence[Any]) -> list[str]:
        """Matches of `body`: for a single character all of the pool, else some strings."""
        if len(body) == 1 and body[0][0] in (c.IN, c.ANY, c.NOT_LITERAL, c.LITERAL):
            return self._chars(*body[0])[:CHARS]
        return [text for text in dict.fromkeys(self.text(body, seed) for seed in range(3 * SAMPLES)) if text]

    def text(self, nodes: Sequence[Any], seed: int) -> str:
        """A string that matches `nodes`; different for most seeds."""
        return self._sequence(nodes, random.Random(seed), {})

    def _sequence(self, nodes: Sequence[Any], choice: random.Random, groups: dict[int, str]) -> str:
        return "".join(self._one(op, value, choice, groups) for op, value in nodes)

    def _one(self, op: Any, value: Any, choice: random.Random, groups: dict[int, str]) -> str:
        match op:
            case c.LITERAL | c.NOT_LITERAL | c.ANY | c.IN:
                return choice.choice(self._chars(op, value))
            case c.MAX_REPEAT | c.MIN_REPEAT | c.POSSESSIVE_REPEAT:
                least, most, body = value
                times = min(least + choice.randrange(3), most)
                return "".join(self._sequence(list(body), choice, groups) for _ in range(times))
            case c.SUBPATTERN:
                text = self._sequence(list(value[-1]), choice, groups)
                groups[value[0]] = text
                return text
            case c.ATOMIC_GROUP:
                return self._sequence(list(value), choice, groups)
            case c.BRANCH:
                return self._sequence(list(choice.choice(value[1])), choice, groups)
            case c.ASSERT if value[0] < 0:  # a lookbehind
                return self._sequence(list(value[1]), choice, groups)
            case c.GROUPREF:
                return groups.get(value, "")
            case c.AT | c.ASSERT | c.ASSERT_NOT:
                return ""
        raise AssertionError(f"no samples for {op}")

    def _chars(self, op: Any, value: Any) -> list[str]:
        if op is c.LITERAL:
            return [chr(value)]
        taken = [char for char in self._pool if self._takes(op, value, char)]
        if not taken and op is c.IN:
            taken = [chr(item if name is c.LITERAL else item[0]) for name, item in value if name in (c.LITERAL, c.RANGE)]
        return taken or ["x"]

    def _takes(self, op: Any, value: Any, char: str) -> bool:
        match op:
            case c.NOT_LITERAL:
                return bool(ord(char) != value)
            case c.ANY:
                return True  # a newline too: a group may have flags of its own
            case c.NEGATE:
                return False
            case c.LITERAL:
                return bool(ord(char) == value)
            case c.RANGE:
                return bool(value[0] <= ord(char) <= value[1])
            case c.CATEGORY:
                return re.fullmatch(_CATEGORIES[value], char) is not None
        inside = any(self._takes(name, item, char) for name, item in value)
        return inside is not (value[0][0] is c.NEGATE)


_CATEGORIES = {
    c.CATEGORY_DIGIT: r"\d",
    c.CATEGORY_NOT_DIGIT: r"\D",
    c.CATEGORY_SPACE: r"\s",
    c.CATEGORY_NOT_SPACE: r"\S",
    c.CATEGORY_WORD: r"\w",
    c.CATEGORY_NOT_WORD: r"\W",
}


def _literals(nodes: Sequence[Any]) -> Iterator[str]:
    for op, value in nodes:
        if op in (c.LITERAL, c.NOT_LITERAL):
            yield chr(value)
        elif op is c.RANGE:
            yield chr(value[0])
        elif op is c.IN:
            yield from _literals(value)
        elif op in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT, c.SUBPATTERN):
            yield from _literals(list(value[-1]))
        elif op is c.ATOMIC_GROUP:
            yield from _literals(list(value))
        elif op is c.BRANCH:
            for branch in value[1]:
                yield from _literals(list(branch))


class _Late(Exception):
    pass


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets `ratio` interrupt a call, with a signal: the engine of `re` checks for signals while it matches."""

    def late(*_: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGVTALRM, late)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _seconds(call: Callable[[Any], object], text: str | bytes, limit: float) -> float:
    """Processor time of the call; infinite if it was interrupted."""
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit)
        begin = time.thread_time()
        call(text)
        end = time.thread_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _Late:
        return math.inf
    return end - begin


def ratio(call: Callable[[Any], object], text: Callable[[int], Any]) -> float:
    """The factor by which the call slows down on twice the length; 0 where the longest string takes no time worth comparing."""
    chars = 128
    while _seconds(call, text(chars), LIMIT_S) < FLOOR_S:
        if chars >= MAX_CHARS:
            return 0.0
        chars *= 8
    while math.isinf(_seconds(call, text(chars := chars // 2), LIMIT_S)):
        if chars < 2:
            return math.inf
    half, whole = text(chars), text(2 * chars)
    fast = slow = math.inf
    spent = 0.0
    while spent < SUSPECT_S:
        fast = min(fast, _seconds(call, half, 4 * LIMIT_S))
        slow = min(slow, _seconds(call, whole, 8 * LIMIT_S))
        if math.isinf(slow):
            return math.inf
        if slow / fast < CLEAR:
            break
        spent += fast + slow
    return slow / fast

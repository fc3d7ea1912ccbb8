"""Reads a filter that is written as JSON: `{"year": {">=": 2020}, "team": {"in": ["a", "b"]}, "not": {"draft": true}}`."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import FilterError
from pipeline.filters.language import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, parse
from pipeline.filters.tree import All, Bare, Condition, Either, Node, Not, Op, Value, conditions, equals, field_name

_RANGES = {op.value: op for op in (Op.LESS, Op.AT_MOST, Op.MORE, Op.AT_LEAST)}


def read(value: object) -> Node:
    """The tree of a filter: an object, or a text in it. Raises FilterError with the path of what cannot be read."""
    found = _node(value, "", 0)
    if sum(1 for _ in conditions(found)) > MAX_CONDITIONS:
        raise FilterError(f"the filter has too many conditions; up to {MAX_CONDITIONS} are allowed")
    return found


def _node(value: object, path: str, depth: int) -> Node:
    if isinstance(value, str):
        try:
            return parse(value)
        except FilterError as error:
            raise FilterError(f"{path}: {error}" if path else str(error)) from error
    if not isinstance(value, Mapping):
        raise _error(path, "expected an object or a text")
    if depth > MAX_DEPTH:
        raise _error(path, f"more than {MAX_DEPTH} objects inside each other")
    parts = [_part(str(key), inner, f"{path}.{key}" if path else str(key), depth) for key, inner in value.items()]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _part(key: str, value: object, path: str, depth: int) -> Node:
    if key == "not":
        return Not(_node(value, path, depth + 1))
    if key in ("and", "or"):
        if not isinstance(value, list):
            raise _error(path, "expected a list of filters")
        parts = tuple(_node(one, f"{path}[{number}]", depth + 1) for number, one in enumerate(value))
        return All(parts) if key == "and" else Either(parts)
    name = field_name(key)
    if isinstance(value, Mapping):
        made = tuple(_operator(name, str(sign), operand, f"{path}.{sign}") for sign, operand in value.items())
        if not made:
            raise _error(path, "the object is empty; expected an operator")
        return made[0] if len(made) == 1 else All(made)
    # A text beside the name of a field is what `field=value` says.
    return equals(name, Bare(value) if isinstance(value, str) and value.endswith("*") else _scalar(value, path), path)


def _operator(name: str, sign: str, operand: object, path: str) -> Node:
    if sign in ("=", "!="):
        condition = Condition(name, Op.IN, (_scalar(operand, path),), path)
        return condition if sign == "=" else Not(condition)
    if sign in ("in", "not in"):
        if not isinstance(operand, list) or not 0 < len(operand) <= MAX_VALUES:
            raise _error(path, f"expected a list with at least one value, and up to {MAX_VALUES}")
        condition = Condition(name, Op.IN, tuple(_scalar(one, path) for one in operand), path)
        return condition if sign == "in" else Not(condition)
    if sign in _RANGES:
        return Condition(name, _RANGES[sign], (_scalar(operand, path),), path)
    if sign == "~":
        if not isinstance(operand, str) or not operand.endswith("*") or "*" in operand[:-1]:
            raise _error(path, "expected a pattern with one `*`, at its end")
        return Condition(name, Op.BEGINS, (operand[:-1],), path)
    if sign in ("exists", "missing"):
        if not isinstance(operand, bool):
            raise _error(path, "expected true or false")
        condition = Condition(name, Op.EXISTS, (), path)
        return condition if operand == (sign == "exists") else Not(condition)
    raise _error(path, "expected one of =, !=, <, <=, >, >=, ~, in, not in, exists, missing")


def _scalar(value: object, path: str) -> Value:
    if isinstance(value, (str, int, float)):
        return value
    raise _error(path, "expected a text, a number, true or false")


def _error(path: str, expected: str) -> FilterError:
    return FilterError(f"the filter cannot be read at {path or 'its beginning'}: {expected}")

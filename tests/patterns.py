"""All regular expressions of the project, found in its syntax trees, each with the methods that are called on it."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "workers")
METHODS = ("match", "fullmatch", "search", "finditer", "findall", "split", "sub", "subn")


@dataclass(frozen=True, slots=True)
class Use:
    """A pattern and a method that the project calls on it."""

    pattern: re.Pattern[Any]
    method: str
    where: str  #: module and line


@dataclass(slots=True)
class _Source:
    """A module's syntax tree, the patterns that it compiles and the methods that it calls on names."""

    module: str
    tree: ast.Module
    calls: list[ast.Call] = field(default_factory=list)  #: of functions of `re` that take a pattern
    names: dict[int, str] = field(default_factory=dict)  #: name that the call with this id() is assigned to
    methods: dict[str | int, set[str]] = field(default_factory=lambda: defaultdict(set))  #: by name, or by id() of a call

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            match node:
                case ast.ImportFrom(module="re"):
                    raise AssertionError(f"{self.module}:{node.lineno}: write `import re`, so that patterns are found by `re.`")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=attr)) if attr in (*METHODS, "compile"):
                    self.calls.append(node)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                    self.names[id(call)] = name
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
                    self.names[id(call)] = name
                case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=attr) if attr in METHODS:
                    self.methods[name].add(attr)
                case ast.Attribute(value=ast.Call() as call, attr=attr) if attr in METHODS:
                    self.methods[id(call)].add(attr)


def find(made: Mapping[str, Sequence[str]]) -> tuple[list[Use], set[str]]:
    """Every use of a pattern, and the keys of `made` that were needed.

    `made` has examples of the patterns that are built at run time, by the expression that builds them. Raises AssertionError
    for such an expression without examples.
    """
    sources = [_read(path) for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]
    found: dict[tuple[Any, int, str], Use] = {}
    needed: set[str] = set()
    for source in sources:
        for call in source.calls:
            where = f"{source.module}:{call.lineno}"
            patterns, key = _patterns(call, import_module(source.module), made, where)
            needed |= key
            for pattern in patterns:
                for method in sorted(_methods(call, source, sources)):
                    found.setdefault((pattern.pattern, pattern.flags, method), Use(pattern, method, where))
    return list(found.values()), needed


def _read(path: Path) -> _Source:
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    return _Source(module, ast.parse(path.read_text("utf-8")))


def _patterns(
    call: ast.Call, module: ModuleType, made: Mapping[str, Sequence[str]], where: str
) -> tuple[Iterator[re.Pattern[Any]], set[str]]:
    assert isinstance(call.func, ast.Attribute)
    signature = inspect.signature(getattr(re, call.func.attr))
    arguments = signature.bind(*call.args, **{str(keyword.arg): keyword.value for keyword in call.keywords}).arguments
    flags = _value(arguments["flags"], module) if "flags" in arguments else 0
    expression = ast.unparse(arguments["pattern"])
    try:
        values, key = [_value(arguments["pattern"], module)], set()
    except NameError as error:  # built from variables of a function
        if expression not in made:
            raise AssertionError(f"{where}: {error}; give examples of the pattern {expression} in MADE_AT_RUN_TIME") from error
        values, key = list(made[expression]), {expression}
    return (value if isinstance(value, re.Pattern) else re.compile(value, flags) for value in values), key


def _value(expression: ast.expr, module: ModuleType) -> Any:
    return eval(compile(ast.Expression(expression), "<pattern>", "eval"), vars(module))


def _methods(call: ast.Call, source: _Source, sources: Sequence[_Source]) -> set[str]:
    """The methods called on a pattern by its name, in its own module and in those without a pattern of that name."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr != "compile":
        return {call.func.attr}
    name = source.names.get(id(call))
    found = source.methods.get(id(call), set()) | (source.methods.get(name, set()) if name else set())
    for other in sources:
        if name and name not in other.names.values():
            found |= other.methods.get(name, set())
    return found or {"search"}  # the one that asks most of a pattern

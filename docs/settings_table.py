"""Writes the table of all settings in docs/configuration.md from the fields of Settings.

`python docs/settings_table.py` rewrites the table. `--check` only reports whether the table is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from pipeline.settings import Settings

PAGE = Path(__file__).parent / "configuration.md"
BEGIN = "<!-- settings: begin, made by `make docs` -->"
END = "<!-- settings: end -->"

#: Defaults that are computed on each machine, in words.
COMPUTED = {"data_dir": "user data folder"}


def variable_names(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The environment variables of a setting, ours first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(choice for choice in alias.choices if isinstance(choice, str) and choice.isupper())
    return (f"KB_{name.upper()}",)


def kind_of(annotation: Any) -> str:
    """The type of a setting in one or two words, or its choices."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    chosen = next((part for part in get_args(annotation) if part is not type(None)), annotation)  # of an optional value
    names = {SecretStr: "secret", bool: "true or false", int: "whole number", float: "number", Path: "path", str: "text"}
    return names[chosen]


def default_of(name: str, field: FieldInfo) -> str:
    """The default of a setting as a person would write it; empty if it has none."""
    if name in COMPUTED:
        return COMPUTED[name]
    value = field.get_default(call_default_factory=False)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, tuple):
        value = ",".join(value)
    elif isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"`{value}` ({value >> 20} MiB)"
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if value not in ("", None) else ""


def table() -> str:
    """The table as Markdown: one row per setting, in the order of the class."""
    rows = ["| Variable | Also read | Type | Default | Meaning |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        ours, *others = variable_names(name, field)
        also = ", ".join(f"`{other}`" for other in others)
        rows.append(f"| `{ours}` | {also} | {kind_of(field.annotation)} | {default_of(name, field)} | {field.description} |")
    return "\n".join(rows)


def updated(page: str) -> str:
    """`page` with a new table. Raises ValueError when one of the two markers is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Rewrite the page. With `--check`, only return 1 when it is out of date."""
    page = PAGE.read_text(encoding="utf-8")
    new = updated(page)
    if page == new:
        return 0
    if "--check" in sys.argv[1:]:
        print("docs/configuration.md is out of date: run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(new, encoding="utf-8")
    print("docs/configuration.md written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the group's options give to every command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Options that stand before the command."""

    data_dir: Path | None
    log_level: str | None

    def settings(self, default_level: str | None = None, **overrides: object) -> Settings:
        """The settings with the command's own options on top, and logging set up.

        `default_level` is for commands whose own output says enough.
        """
        # Imported here: `--help` must not wait for pydantic.
        from pipeline.settings import load_settings
        from workers import logs

        level = self.log_level
        settings = load_settings(data_dir=self.data_dir, log_level=level, **overrides)
        if level is None and default_level is not None and "log_level" not in settings.model_fields_set:
            settings = settings.model_copy(update={"log_level": default_level})
        logs.set_up(settings.log_level)
        return settings


def print_json(value: object) -> None:
    """Print one JSON value on stdout; dataclasses become objects."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)

"""The sources that are neither folders nor object stores: each is opened when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType

from pipeline.settings import Settings
from pipeline.sources.discover import Omitted, Patterns
from pipeline.sources.git import Git
from pipeline.sources.gitprogram import GitProgram
from pipeline.sources.repositories import is_repository
from pipeline.types import SourceFile


class Remotes:
    """Lists and copies files of remote sources; a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Remotes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what was opened."""
        if "_git" in self.__dict__:
            self._git.close()

    def listed(self, root: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
        """Every wanted file below a root that is remote. Raises SourceError, ConfigError."""
        return self._git.listed(root, patterns)

    def copy(self, file: SourceFile, target: Path) -> tuple[str, SourceFile]:
        """Copy a file that was listed to `target`; return its sha256, and the file as it was copied. Raises DocumentError."""
        return self._git.copy(file, target)

    @cached_property
    def _git(self) -> Git:
        settings = self._settings
        return Git(settings.data_dir / "git", GitProgram(settings.git_credentials, settings.git_timeout_s))


def is_remote(location: object) -> bool:
    """Whether a root or a URI is one of these sources."""
    return isinstance(location, str) and is_repository(location)

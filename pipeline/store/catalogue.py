"""The catalogue of the embedded store: a folder for each physical collection, and a file of aliases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pipeline.errors import CollectionMissing, ConfigError, StoreUnavailable
from pipeline.files.errors import translated, translating
from pipeline.files.lock import FileLock
from pipeline.files.replace import replace_file, sync_folder
from pipeline.store.names import check_name
from pipeline.store.points import SPARSE
from pipeline.store.query import Shape

#: Next to a shard's own files. It is written last, so a folder without it is not a collection.
COLLECTION_FILE = "collection.json"
#: Prefix of folders that are half created or half removed.
_SCRAP = ".scrap-"
#: Prefix of folders of shards inside a collection's folder. The collection file names the one that is in use; a collection
#: without a graph has its shard in the folder itself.
SHARD = "shard-"
#: What the engine keeps in the folder of a shard.
ENGINE_FILES = ("segments", "temp_segments", "wal", "edge_config.json")


class Catalogue:
    """Names, dimensions and aliases under `folder`. Every change is one rename, so a killed process leaves the old or new state."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, tuple[tuple[int, int, int], dict[str, object]]] = {}  #: files as they were read

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self._folder

    def files(self, paths: Sequence[Path]) -> Iterator[Path]:
        """All files of these collections and that of the aliases, without locks; one that was removed is left out.

        No process changes the catalogue until the last one was yielded.
        """
        if not self._folder.is_dir():
            return
        with self._changing():
            for path in (*paths, self._folder / "aliases.json"):
                found = [path] if path.is_file() else sorted(path.rglob("*"))
                unused = leftovers(path)
                yield from (
                    one for one in found if one.is_file() and one.suffix != ".lock" and not any(map(one.is_relative_to, unused))
                )

    def path(self, physical: str) -> Path:
        """Folder of the collection, which may not exist."""
        return self._folder / check_name(physical)

    def names(self) -> list[str]:
        """Physical collections, sorted."""
        with self._reading():
            if not self._folder.is_dir():
                return []
            return sorted(p.parent.name for p in self._folder.glob(f"*/{COLLECTION_FILE}") if not p.parent.name.startswith("."))

    def aliases(self) -> dict[str, str]:
        """Alias -> physical collection."""
        return {str(alias): str(physical) for alias, physical in self._read(self._folder / "aliases.json").items()}

    def resolve(self, name: str) -> str:
        """The physical collection that `name` is or stands for. Raises CollectionMissing."""
        with self._reading():
            if (self.path(name) / COLLECTION_FILE).is_file():
                return name
            physical = self.aliases().get(name)
            if physical is None or not (self.path(physical) / COLLECTION_FILE).is_file():
                raise CollectionMissing(f"no collection {name!r} in {self._folder}; load documents into it first")
            return physical

    def shape(self, physical: str) -> Shape | None:
        """The vectors of the collection; None if it does not exist."""
        stored = self._read(self.path(physical) / COLLECTION_FILE)
        dimension = stored.get("dimension")
        # The engine cannot add a vector to a shard, so a vector that the file lacks is not in the shard either.
        return Shape(dimension, stored.get("sparse") == SPARSE, stored.get("parts") is True) if isinstance(dimension, int) else None

    def add(self, physical: str, shape: Shape, build: Callable[[Path], None]) -> None:
        """Create the collection unless it exists: `build` fills an empty folder, which is then moved into place."""
        target = self.path(physical)
        with self._changing():
            if (target / COLLECTION_FILE).is_file():
                return
            if physical in self.aliases():
                raise ConfigError(f"collection name {physical!r} is taken by an alias; use another name")
            scrap = self._folder / f"{_SCRAP}{physical}"
            shutil.rmtree(scrap, ignore_errors=True)
            shutil.rmtree(target, ignore_errors=True)  # only a folder that lost its collection.json
            scrap.mkdir()
            build(scrap)
            about = {"format": 1, "dimension": shape.dimension, "distance": "cosine", "sparse": SPARSE}
            _write(scrap / COLLECTION_FILE, about | ({"parts": True} if shape.parts else {}))
            scrap.rename(target)
            sync_folder(self._folder)

    def remove(self, physical: str) -> None:
        """Remove the collection and its aliases. The caller must ensure that no process has its shard open."""
        with self._changing():
            aliases = self.aliases()
            kept = {alias: name for alias, name in aliases.items() if name != physical}
            if kept != aliases:
                _write(self._folder / "aliases.json", kept)
            scrap = self._folder / f"{_SCRAP}{physical}"
            shutil.rmtree(scrap, ignore_errors=True)
            try:
                self.path(physical).rename(scrap)
            except FileNotFoundError:
                return
            shutil.rmtree(scrap, ignore_errors=True)

    def remove_scrap(self, physical: str) -> None:
        """Remove what a killed process has left of a collection that does not exist."""
        scrap = self._folder / f"{_SCRAP}{physical}"
        if scrap.is_dir():
            with self._changing():
                shutil.rmtree(scrap, ignore_errors=True)

    def set_alias(self, alias: str, physical: str) -> None:
        """Point `alias` at `physical`. Raises CollectionMissing, and ConfigError if a collection has that name."""
        check_name(alias)
        with self._changing():
            if (self.path(alias) / COLLECTION_FILE).is_file():
                raise ConfigError(f"alias {alias!r} is the name of a collection; use another name")
            if not (self.path(physical) / COLLECTION_FILE).is_file():
                raise CollectionMissing(f"no collection {physical!r} in {self._folder}")
            _write(self._folder / "aliases.json", {**self.aliases(), alias: physical})

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Prevent other processes from changing the catalogue; reading needs no lock."""
        with translating(self._folder, StoreUnavailable):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "catalogue.lock"):
                yield

    def _reading(self) -> AbstractContextManager[None]:
        return translating(self._folder, StoreUnavailable)

    def _read(self, path: Path) -> dict[str, object]:
        try:
            there = path.stat()
            version = there.st_ino, there.st_mtime_ns, there.st_size  # a change is a new file
            if (kept := self._kept.get(path)) is not None and kept[0] == version:
                return kept[1]
            value = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise translated(error, path, StoreUnavailable) from error
        except ValueError as error:
            raise StoreUnavailable(f"cannot read {path}: {error}; restore it from a backup") from error
        if not isinstance(value, dict):
            raise StoreUnavailable(f"{path} does not contain a JSON object; restore it from a backup")
        self._kept[path] = version, value
        return value


def _write(path: Path, value: object) -> None:
    replace_file(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode(), durable=True)


def shard_folder(path: Path) -> Path:
    """Where the engine's files of a collection lie, which has the folder `path`."""
    try:
        name = json.loads((path / COLLECTION_FILE).read_bytes()).get("shard")
    except (OSError, ValueError, AttributeError):  # there is none yet, or the catalogue says what is wrong with it
        name = None
    return path / name if isinstance(name, str) and name.startswith(SHARD) and "/" not in name else path


def take_shard(path: Path, name: str) -> None:
    """Make the shard in the folder `name` inside `path` that of the collection. The caller must have the shard's lock."""
    stored = json.loads((path / COLLECTION_FILE).read_bytes())
    _write(path / COLLECTION_FILE, {**stored, "shard": name})


def leftovers(path: Path) -> list[Path]:
    """Files and folders of shards of a collection that are not the one in use."""
    used = shard_folder(path)
    unused = [one for one in path.glob(f"{SHARD}*") if one != used]
    return unused if used == path else [*unused, *(path / name for name in ENGINE_FILES if (path / name).exists())]

"""The folders that distinguish documents: as deep as needed, and no more of them than there are colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Maximum number of folders with their own colour; people cannot distinguish more colours.
MAX_FOLDERS = 9

#: Name of the group of all smaller folders.
OTHER = "other"

#: A folder's name, split at its slashes.
_Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Folders with a colour, and the folder of each document."""

    root: str  #: common beginning of all folders; empty if there is none
    names: list[str]  #: below the root, the largest first; OTHER at the end if there are more folders than colours
    of: list[int]  #: for each document, an index into the names


def group(folders: Sequence[str]) -> Grouping:
    """Group documents by their folders, absolute paths or URLs.

    The groups are the children of the deepest folder that contains everything. While one of them contains more than half of all
    documents, it is split into its own children, unless most documents would lose their colour.
    """
    parts = [tuple(folder.rstrip("/").split("/")) for folder in folders]
    sizes = Counter(parts)
    root = _common(list(sizes))
    groups = _split(list(sizes), root)
    while True:
        prefix, largest = max(groups.items(), key=lambda one: _size(one[1], sizes), default=((), []))
        if 2 * _size(largest, sizes) <= len(folders):
            break
        children = _split(largest, _common(largest))
        finer = {**{key: value for key, value in groups.items() if key != prefix}, **children}
        coloured = sorted((_size(members, sizes) for members in finer.values()), reverse=True)[:MAX_FOLDERS]
        if len(children) < 2 or 2 * sum(coloured) < len(folders):
            break
        groups = finer
    ordered = sorted(groups.values(), key=lambda members: (-_size(members, sizes), _common(members)))
    names = [_name(_common(members), root) for members in ordered]
    of = {member: min(number, MAX_FOLDERS) for number, members in enumerate(ordered) for member in members}
    shown = [*names[:MAX_FOLDERS], OTHER] if len(names) > MAX_FOLDERS else names
    return Grouping("/".join(root) or ("/" if folders and root else ""), shown, [of[one] for one in parts])


def _split(folders: Sequence[_Parts], parent: _Parts) -> dict[_Parts, list[_Parts]]:
    """Folders by the child of `parent` that contains them; `parent` itself forms its own group."""
    found: dict[_Parts, list[_Parts]] = {}
    for folder in folders:
        found.setdefault(folder[: len(parent) + 1], []).append(folder)
    return found


def _common(folders: Sequence[_Parts]) -> _Parts:
    """The deepest folder that contains all of them."""
    if not folders:
        return ()
    low, high = min(folders), max(folders)
    same = next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), min(len(low), len(high)))
    return low[:same]


def _size(members: Sequence[_Parts], sizes: Counter[_Parts]) -> int:
    return sum(sizes[member] for member in members)


def _name(folder: _Parts, root: _Parts) -> str:
    return "/".join(folder[len(root) :]) or ("." if root else "/")

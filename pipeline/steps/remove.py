"""Removal of documents: finds those that vanished from a source, checks whether that is plausible, and deletes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipeline.ledger import Ledger
from pipeline.ledger.removal import Kept
from pipeline.sources.discover import exists
from pipeline.steps.scope import Listed, Scope, lies_below
from pipeline.store.base import VectorStore


@dataclass(slots=True)
class Vanished:
    """Documents that the ledger knows in a scope and a listing did not find."""

    documents: list[Kept] = field(default_factory=list)  #: those that may be deleted
    refused: str = ""  #: why others may not be deleted, human-readable


def vanished(ledger: Ledger, generation: str, scope: Scope, listed: Listed, max_ratio: float, *, allow: bool = False) -> Vanished:
    """Compare the ledger with a finished listing, root by root.

    Each missing document is looked up once more before it counts as vanished: a file that was being replaced while its folder
    was listed exists again. If the listing is not plausible, nothing is looked up. `allow` is a person's confirmation that
    many deletions, or an empty source, are intended; it does not excuse a listing with gaps.
    """
    found, reasons = Vanished(), []
    for number, root in enumerate(listed.roots):
        below = [root, *scope.formerly] if number == 0 else [root]
        missing: list[Kept] = []
        known = 0
        for window in ledger.removal.present(generation, below, scope.elsewhere):
            known += len(window)
            missing += [document for document in window if document.id not in listed]
        refused = refusal(len(missing), known, listed.files[number], listed, max_ratio, allow=allow)
        if refused and listed.files[number] and not listed.unlisted:  # too many; but what was moved is not lost
            lost = len(missing) - _moved(ledger.removal.present(generation, below, scope.elsewhere), missing, listed)
            refused = refusal(lost, known, listed.files[number], listed, max_ratio, allow=allow)
        if refused:
            reasons.append(refused if len(listed.roots) == 1 else f"{root}: {refused}")
        else:
            found.documents += [document for document in missing if not _there(document.uri, root, scope)]
    found.refused = "; ".join(reasons)
    return found


def _moved(present: Iterable[list[Kept]], missing: list[Kept], listed: Listed) -> int:
    """How many of the missing documents have bytes that a listed one of those present has: their file has another name now."""
    wanted = {document.content_hash for document in missing if document.content_hash}
    held = {
        document.content_hash
        for window in present
        for document in window
        if document.content_hash in wanted and document.id in listed
    }
    return sum(document.content_hash in held for document in missing)


def refusal(missing: int, known: int, files: int, listed: Listed, max_ratio: float, *, allow: bool) -> str:
    """Why `missing` of `known` documents must not be deleted, human-readable; `files` is how many files were listed there."""
    if not missing:
        return ""
    gone = f"{missing} of {known} {'document is' if known == 1 else 'documents are'} gone from the source"
    if listed.unlisted:
        return f"{gone}, but {listed.unlisted[0]} could not be listed, so nothing is deleted"
    if allow:
        return ""
    if not files:
        return f"{gone}, which contains no files any more; if this is intended, repeat with --allow-delete"
    if missing > max_ratio * known:
        return f"{gone}, more than KB_MAX_DELETE_RATIO {max_ratio:g} allows; if this is intended, repeat with --allow-delete"
    return ""


def remove_due(ledger: Ledger, store: Callable[[], VectorStore], grace_s: float, collection: str | None = None) -> int:
    """Delete the points of marked documents whose grace period is over, and forget them; return how many.

    `store` is called only if there is something to delete. A document whose last worker still holds its lease loses its points
    and stays marked for another call. Raises StoreUnavailable, LedgerUnavailable; a later call continues from there.
    """
    removed, fenced = 0, set[str]()
    while due := ledger.removal.due(grace_s, collection, without=sorted(fenced)):
        fenced.update(document.id for document in due if document.fenced)
        for name in {document.collection for document in due}:
            ours = [document for document in due if document.collection == name]
            known = ledger.collections.get(name)
            if known is not None and known.physical in store().collections():
                store().delete_documents(known.physical, [document.id for document in ours])
                store().flush(known.physical)
            over = [document.id for document in ours if not document.fenced]
            back = ledger.removal.forget(over)
            # A load found these again in between, and a worker may have relied on the points that are deleted now.
            ledger.work.recheck(sorted(back))
            removed += len(over) - len(back)
    return removed


def _there(uri: str, root: str, scope: Scope) -> bool:
    """Whether a listing of this root would now yield a document at this URI."""
    if uri == root:
        return exists(uri)
    return lies_below(uri, root) and scope.patterns.wants(uri.removeprefix(f"{root}/")) and exists(uri)

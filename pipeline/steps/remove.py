"""How documents leave a collection: what has vanished from its source, whether that may be believed, and the removal itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.discover import Patterns, Root, exists, root_uri
from pipeline.ledger import Ledger
from pipeline.ledger.removal import Kept
from pipeline.steps.load import Listed
from pipeline.store import VectorStore


@dataclass(slots=True)
class Vanished:
    """What the ledger knows below some roots and a whole listing did not meet."""

    documents: list[Kept] = field(default_factory=list)
    known: int = 0  #: documents the ledger knows there, these included


def vanished(
    ledger: Ledger, collection: str, roots: Sequence[Root], elsewhere: Sequence[str], patterns: Patterns, listed: Listed
) -> Vanished:
    """Compare the ledger with a listing that is done.

    `elsewhere` are URIs of other sources inside these roots, whose documents are their own matter. Each document that was not
    met is looked for once more: one that was being replaced while its folder was listed is there again.
    """
    found = Vanished()
    below = [root_uri(root) for root in roots]
    for window in ledger.removal.present(collection, below, elsewhere):
        found.known += len(window)
        for document in window:
            if document.id not in listed and not (_wanted(document.uri, below, patterns) and exists(document.uri)):
                found.documents.append(document)
    return found


def refusal(found: Vanished, listed: Listed, max_ratio: float, *, allow: bool) -> str:
    """Why these documents are not to be deleted, in words; empty where they may be.

    `allow` is a person's word that it is meant; it does not make up for a listing that is not whole.
    """
    if not found.documents:
        return ""
    gone = f"{len(found.documents)} of {found.known} documents are gone from the source"
    if listed.unlisted:
        return f"{gone}, but {listed.unlisted[0]} could not be listed, so nothing is deleted"
    if allow:
        return ""
    if not listed.ids:
        return f"{gone} and it holds no file any more; if that is meant, repeat with --allow-delete"
    if len(found.documents) > max_ratio * found.known:
        return f"{gone}, more than KB_MAX_DELETE_RATIO {max_ratio:g} allows; if that is meant, repeat with --allow-delete"
    return ""


def remove_due(ledger: Ledger, store: Callable[[], VectorStore], grace_s: float, collection: str | None = None) -> int:
    """Delete the points of marked documents whose grace is over, and forget them; return how many.

    `store` is called where there is something to delete. A document whose last worker still holds its lease loses its points and
    stays marked, for another call. Raises StoreUnavailable, LedgerUnavailable: a later call goes on from there.
    """
    removed, after = 0, ""
    while due := ledger.removal.due(grace_s, collection, after=after):
        after = due[-1].id
        for name in {document.collection for document in due}:
            ours = [document for document in due if document.collection == name]
            known = ledger.collections.get(name)
            if known is not None and known.physical in store().collections():
                store().delete_documents(known.physical, [document.id for document in ours])
                store().flush(known.physical)
            over = [document.id for document in ours if not document.fenced]
            back = ledger.removal.forget(over)
            # A load has met them in between, and a worker may have counted on the points that are gone now.
            ledger.work.recheck(sorted(back))
            removed += len(over) - len(back)
    return removed


def _wanted(uri: str, roots: Sequence[str], patterns: Patterns) -> bool:
    """Whether a listing of these roots would yield a document at this URI, if it were there."""
    for root in roots:
        if uri == root:
            return True
        if uri.startswith(f"{root}/"):
            return patterns.wants(uri.removeprefix(f"{root}/"))
    return False

"""How documents leave a collection: what has vanished from its source, whether that may be believed, and the removal itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.ledger import Ledger
from pipeline.ledger.removal import Kept
from pipeline.sources.discover import exists
from pipeline.steps.scope import Listed, Scope, lies_below
from pipeline.store import VectorStore


@dataclass(slots=True)
class Vanished:
    """What the ledger knows in a scope and a listing did not meet."""

    documents: list[Kept] = field(default_factory=list)  #: that may be deleted
    refused: str = ""  #: why others may not, in words


def vanished(ledger: Ledger, generation: str, scope: Scope, listed: Listed, max_ratio: float, *, allow: bool = False) -> Vanished:
    """Compare the ledger with a listing that is done, root by root.

    Each document that was not met is looked for once more before it counts: one that was being replaced while its folder was
    listed is there again. Nothing is looked for where the listing is not to be believed anyway. `allow` is a person's word that
    many deletions, or an empty source, are meant; it does not make up for a listing with gaps.
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
        if refused:
            reasons.append(refused if len(listed.roots) == 1 else f"{root}: {refused}")
        else:
            found.documents += [document for document in missing if not _there(document.uri, root, scope)]
    found.refused = "; ".join(reasons)
    return found


def refusal(missing: int, known: int, files: int, listed: Listed, max_ratio: float, *, allow: bool) -> str:
    """Why `missing` of `known` documents are not to be deleted, in words; `files` were listed where they should be."""
    if not missing:
        return ""
    gone = f"{missing} of {known} documents are gone from the source"
    if listed.unlisted:
        return f"{gone}, but {listed.unlisted[0]} could not be listed, so nothing is deleted"
    if allow:
        return ""
    if not files:
        return f"{gone} and it holds no file any more; if that is meant, repeat with --allow-delete"
    if missing > max_ratio * known:
        return f"{gone}, more than KB_MAX_DELETE_RATIO {max_ratio:g} allows; if that is meant, repeat with --allow-delete"
    return ""


def remove_due(ledger: Ledger, store: Callable[[], VectorStore], grace_s: float, collection: str | None = None) -> int:
    """Delete the points of marked documents whose grace is over, and forget them; return how many.

    `store` is called where there is something to delete. A document whose last worker still holds its lease loses its points and
    stays marked, for another call. Raises StoreUnavailable, LedgerUnavailable: a later call goes on from there.
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
            # A load has met them in between, and a worker may have counted on the points that are gone now.
            ledger.work.recheck(sorted(back))
            removed += len(over) - len(back)
    return removed


def _there(uri: str, root: str, scope: Scope) -> bool:
    """Whether a listing of this root would yield a document at this URI, if it were done now."""
    if uri == root:
        return exists(uri)
    return lies_below(uri, root) and scope.patterns.wants(uri.removeprefix(f"{root}/")) and exists(uri)

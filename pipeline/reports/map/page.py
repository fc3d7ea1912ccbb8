"""The map as one self-contained HTML page that makes no requests; its tables work without JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from pipeline.reports.map import MAX_POINTS, NEIGHBOURS, DocumentName, EmbeddingMap, Findings, Place
from pipeline.reports.map.likeness import FEWEST_FOR_OUTLIERS, written

#: Maximum number of copies named in a row of the table; the others are counted.
MAX_NAMES = 10


def map_page(drawn: EmbeddingMap) -> str:
    """The whole page. Text from documents is escaped, so nothing in a title or a path becomes markup or script."""
    found = drawn.findings
    parts = {
        "COLLECTION": escape(found.collection), "FACTS": _facts(found), "ABOUT": escape(_about(found)),
        "COPIES": _copies(found), "NEAR": _near(found), "OUTLIERS": _outliers(found), "DATA": _data(drawn),
    }  # fmt: skip
    template = files("pipeline.reports.map").joinpath("page.html").read_text("utf-8")
    # In one pass, so that a title that looks like a placeholder stays a title.
    return re.sub("@(" + "|".join(parts) + ")@", lambda mark: parts[mark[1]], template)


def _data(drawn: EmbeddingMap) -> str:
    """Data for the script: JSON without a `<`, so that neither `</script>` nor `<!--` in it can end or change the element."""
    found = drawn.findings
    rows = {place.document.uri: row for row, place in enumerate(drawn.places)}
    value = {
        "root": found.root,
        "folders": [[folder.name, folder.documents] for folder in found.folders],
        "places": [_place(place) for place in drawn.places],
        "copies": [[rows[document.uri] for document in copies.documents] for copies in found.copies],
        "near": [[rows[pair.first.uri], rows[pair.second.uri]] for pair in found.near],
        "outliers": [rows[lonely.document.uri] for lonely in found.outliers],
    }
    # Only ASCII, which also escapes U+2028 and U+2029.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def _place(place: Place) -> list[str | float | int]:
    named = place.document
    return [named.title, named.path, place.folder, round(place.x, 5), round(place.y, 5), place.chunks]


def _facts(found: Findings) -> str:
    facts = [
        (found.documents, "document", "documents"),
        (found.chunks, "chunk", "chunks"),
        (found.copies_total, "group of copies", "groups of copies"),
        (found.near_total, "near-duplicate pair", "near-duplicate pairs"),
        (found.outliers_total, "outlier", "outliers"),
    ]
    return "".join(f"<li><b>{count:,}</b> {one if count == 1 else many}</li>" for count, one, many in facts)


def _about(found: Findings) -> str:
    if not found.documents:
        return "This collection contains no documents yet."
    words = ["Each point is a document, placed at the mean of its chunks. Documents with similar content are near each other."]
    if found.documents > 1:
        words.append(
            f"The plane shows {found.explained:.0%} of the variance: distant points differ, and neighbouring points may differ too."
        )
    if found.drawn < found.documents:
        words.append(
            f"All documents were compared, but only an even share of them is drawn, {found.drawn:,}, because there are more than "
            f"{MAX_POINTS:,}."
        )
    if found.root:
        words.append(f"Paths in the tables are relative to {found.root}.")
    return " ".join(words)


def _copies(found: Findings) -> str:
    rows = []
    for number, copies in enumerate(found.copies):
        names = [_document(document, found.root) for document in copies.documents[:MAX_NAMES]]
        left = len(copies.documents) - len(names)
        more = [f"<p>and {left:,} more</p>"] if left else []
        rows.append((f"copies:{number}", f"{len(copies.documents)} ×", "".join(names + more)))
    return _table(("copies", "documents"), rows, found.copies_total, "There are no identical documents.")


def _near(found: Findings) -> str:
    rows = [
        (f"near:{number}", written(pair.cosine), _document(pair.first, found.root) + _document(pair.second, found.root))
        for number, pair in enumerate(found.near)
    ]
    none = f"No two different documents have a cosine of {found.near_cosine:g} or more."
    return _table(("cosine", "documents"), rows, found.near_total, none)


def _outliers(found: Findings) -> str:
    rows = [
        (f"outliers:{number}", f"{lonely.cosine:.2f}", _document(lonely.document, found.root))
        for number, lonely in enumerate(found.outliers)
    ]  # fmt: skip
    usual = (
        f"<p>Mean cosine to the {NEIGHBOURS} nearest documents. Half of the documents have {found.typical_cosine:.2f} or more.</p>"
        if found.typical_cosine is not None and rows
        else ""
    )
    compared = found.documents - sum(len(copies.documents) - 1 for copies in found.copies)
    none = (
        f"Fewer than {FEWEST_FOR_OUTLIERS} different documents are too few to find outliers."
        if compared < FEWEST_FOR_OUTLIERS
        else "There are no outliers."
    )
    return usual + _table(("cosine", "document"), rows, found.outliers_total, none)


def _table(head: Sequence[str], rows: Sequence[tuple[str, str, str]], total: int, none: str) -> str:
    if not rows:
        return f"<p>{escape(none)}</p>"
    more = f"<p>The first {len(rows):,} of {total:,}.</p>" if total > len(rows) else ""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    return f"{more}<table><thead><tr>{titles}</tr></thead><tbody>{''.join(_rows(rows))}</tbody></table>"


def _rows(rows: Sequence[tuple[str, str, str]]) -> Iterable[str]:
    return (f'<tr data-mark="{mark}"><td>{figure}</td><td>{documents}</td></tr>' for mark, figure, documents in rows)


def _document(named: DocumentName, root: str) -> str:
    """Title and path of a document, with the whole path as a tooltip."""
    below = root.rstrip("/") + "/"
    path = escape(named.path.removeprefix(below) if root else named.path)
    where = f'<a href="{escape(named.uri)}">{path}</a>' if named.uri.startswith("file:///") else path
    return f'<p><b>{escape(named.title)}</b> <small title="{escape(named.path)}">{where}</small></p>'

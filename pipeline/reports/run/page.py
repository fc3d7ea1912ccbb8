"""The report of a run as one self-contained HTML page without scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from itertools import accumulate

from pipeline.ledger.losses import told
from pipeline.reports.run import WHOLE, Document, Failure, Group, RunReport, charts
from pipeline.reports.run.charts import Bar, Mark
from pipeline.reports.run.markup import Html, part, table
from pipeline.reports.run.words import file_name, missing
from pipeline.sources.uris import shown_path
from pipeline.text import duration, local_time, number, one_line, plural, size

#: Maximum number of failures per reason that are shown without a click.
SHOWN = 12

#: Labels and formats of the comparison's figures.
_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("duration", duration), "discovered": ("files found", number), "unchanged": ("unchanged", number),
    "added": ("added", number), "changed": ("changed", number), "deleted": ("deleted", number), "indexed": ("indexed", number),
    "quarantined": ("quarantined", number), "embedded": ("chunks embedded", number), "bytes": ("staged", size),
    "chunks_per_s": ("chunks per second", number), "collection_documents": ("documents, including failed ones", number),
    "collection_chunks": ("chunks of the collection", number), "collection_failures": ("remaining failures", number),
}  # fmt: skip


def report_page(report: RunReport) -> str:
    """The HTML page; names and texts from documents are escaped."""
    run, mood = report.run, {"done": "good", "going on": "", "not finished": ""}.get(report.outcome, "bad")
    why = f", by the schedule {run.schedule}" if run.schedule else ""
    took = duration(report.seconds) + (" so far" if report.so_far else "")
    when = f"{local_time(run.started_at, zone=True)}, {took}{why}. Collection {run.collection}."
    return part(
        "page", number=str(run.id), action=run.action, subject=run.source or run.collection, outcome=report.outcome, mood=mood,
        when=when, made=local_time(time.time(), zone=True), notes=Html(_notes(report)), tiles=Html(_tiles(report)),
        sections=Html(_sections(report)),
    )  # fmt: skip


def _notes(report: RunReport) -> str:
    notes = []
    if report.run.detail:
        mood = "bad" if report.outcome in ("failed", "refused") else ""
        notes.append(part("note", id="detail", mood=mood, title="", words=one_line(report.run.detail)))
    if report.so_far:
        left = f"{plural(report.totals.open, 'document')} {'is' if report.totals.open == 1 else 'are'} unfinished."
        words = "All figures are preliminary: the run is in progress, was started with --no-wait, or its command died. " + left
        notes.append(part("note", id="so-far", mood="", title="Not finished.", words=words))
    if report.events != WHOLE:
        notes.append(part("note", id="forgotten", mood="", title="Incomplete data.", words=missing(report)))
    return "\n".join(notes)


def _tiles(report: RunReport) -> str:
    totals, run = report.totals, report.run
    tiles: list[tuple[str, str, str]] = []
    if run.action == "verify":
        names = (("documents", "documents checked"), ("chunks", "points"), ("failures", "wrong points"))
        tiles = [(name, words, number(getattr(report.figures, name))) for name, words in names if report.figures]
    elif run.action == "delete":
        tiles = [("deleted", "documents deleted", number(totals.deleted))]
    else:
        tiles = [
            ("discovered", "files found", number(totals.discovered)), ("unchanged", "unchanged", number(totals.unchanged)),
            ("indexed", "documents indexed", number(totals.indexed)), ("quarantined", "failed", number(totals.quarantined)),
            ("skipped", "left out", number(totals.skipped)), ("deleted", "deleted", number(totals.deleted)),
            ("embedded", "chunks embedded", number(totals.embedded)), ("tokens", "tokens", number(totals.tokens)),
            ("bytes", "copied to staging", size(totals.bytes)), ("chunks_per_s", "chunks per second", number(totals.chunks_per_s)),
            ("bytes_per_s", "of documents", f"{size(totals.bytes_per_s)}/s"),
        ]  # fmt: skip
        hidden = {"deleted": not totals.deleted, "skipped": not totals.skipped, "tokens": not totals.tokens}
        tiles = [tile for tile in tiles if not hidden.get(tile[0])]
    tiles.append(("seconds", "duration" if not report.so_far else "so far", duration(report.seconds)))
    bad = ("quarantined", "failures")
    return "".join(
        part("tile", id=name, words=words, value=value, mood="bad" if name in bad and value != "0" else "")
        for name, words, value in tiles
    )


def _sections(report: RunReport) -> str:
    parts = []
    if report.slowest:
        parts.append(_throughput(report))
    if any(one.documents for one in report.stages):
        parts.append(_stages(report))
    if report.lengths.chunks:
        parts.append(_lengths(report))
    if report.run.action not in ("verify", "delete"):
        parts.append(_failures(report))
    if report.comparison:
        parts.append(_comparison(report))
    if report.slowest:
        parts += [_slowest(report), _largest(report)]
    return "\n".join(parts)


def _throughput(report: RunReport) -> str:
    marks, width = charts.time_marks(report.seconds), report.bins[0].seconds
    bars = []
    for one in report.bins:
        rate = one.chunks / one.seconds if one.seconds else 0.0
        span = f"{duration(one.start_s)} to {duration(one.start_s + one.seconds)}"
        bars.append(Bar(rate, f"{span}: {number(round(rate, 1))} chunks/s, {plural(one.documents, 'document')}, {size(one.bytes)}"))
    done = [0, *accumulate(one.documents for one in report.bins)]
    best = max(bar.value for bar in bars)
    about = f"{plural(len(bars), 'part')} of the run; the fastest one embedded {best:.1f} chunks per second."
    rows = [
        (duration(one.start_s), number(round(bar.value, 1)), number(one.documents), number(total), size(one.bytes))
        for one, bar, total in zip(report.bins, bars, done[1:], strict=True)
    ]
    return part(
        "throughput", width=duration(width),
        bars=Html(charts.columns("throughput", "Chunks embedded per second", about, bars, marks)),
        line=Html(charts.rising("documents", "Searchable documents", f"From 0 to {done[-1]}.", done, marks)),
        table=table("Parts of the run", ("from", "#chunks/s", "#documents", "#in total", "#bytes"), rows),
    )  # fmt: skip


def _stages(report: RunReport) -> str:
    parts, longest = [], 0.0
    for one in report.stages:
        means = [value / max(1, one.documents) for value in (one.waited_s, one.beside_s, one.work_s)]
        kinds = (("wait", "waiting"), ("beside", "in a worker's batch with others"), ("work", "processing"))
        bars = [
            Bar(mean, f"{one.stage}: {words}, {duration(mean)} on average", kind)
            for mean, (kind, words) in zip(means, kinds, strict=True)
        ]
        parts.append((one.stage, bars))
        longest = max(longest, sum(means))
    spent = {f"waiting for the {one.stage} stage": one.waited_s for one in report.stages}
    spent |= {f"work of the {one.stage} stage": one.work_s for one in report.stages}
    spent |= {f"batches of the {one.stage} stage with others": one.beside_s for one in report.stages}
    most, whole = max(spent, key=lambda name: spent[name]), sum(spent.values())
    words = f"Documents spent most of their time, {spent[most] / whole:.0%}, on {most}." if whole else ""
    stages, seconds = report.stages, report.seconds
    if seconds:
        words += " Workers busy on average: " + ", ".join(f"{one.work_s / seconds:.2f} {one.stage}" for one in stages) + "."
    rows = [
        ("documents", *(number(one.documents) for one in stages)),
        ("waiting for a worker", *(duration(one.waited_s) for one in stages)),
        ("longest wait of one document", *(duration(one.longest_wait_s) for one in stages)),
        ("in a batch with others", *(duration(one.beside_s) for one in stages)),
        ("work", *(duration(one.work_s) for one in stages)),
    ]
    marks = charts.time_marks(longest)
    return part(
        "stages", words=words, table=table("Sums over all documents", ("", *(f"#{one.stage}" for one in stages)), rows),
        rows=Html(charts.rows("stages", "Where the time of a document goes", words, parts, marks, longest)),
    )  # fmt: skip


def _lengths(report: RunReport) -> str:
    lengths = report.lengths
    bars, rows = [], []
    for place, count in enumerate(lengths.bins):
        first, last = place * lengths.width + 1, (place + 1) * lengths.width
        over = bool(lengths.limit) and first > lengths.limit
        bars.append(Bar(count, f"{first} to {last} tokens: {plural(count, 'chunk')}", "over" if over else "bar"))
        rows.append((f"{first} to {last}", number(count)))
    end = len(lengths.bins) * lengths.width
    every = max(1, len(lengths.bins) // 8)
    marks = [Mark(place / len(lengths.bins), str(place * lengths.width)) for place in range(0, len(lengths.bins) + 1, every)]
    limit = Mark(lengths.limit / end, f"model limit: {lengths.limit}") if lengths.limit else None
    if lengths.over:
        note = ("bad", f"{plural(lengths.over, 'chunk')} {'was' if lengths.over == 1 else 'were'} cut.",
                "Text beyond the model's limit was not embedded, so a search by meaning cannot find it.")  # fmt: skip
    elif lengths.limit:
        note = ("good", "0 chunks were cut.", f"No chunk is longer than the model's limit of {lengths.limit} tokens.")
    else:
        note = ("", "0 chunks are known to be cut.", "The model server does not report the limit of its model.")
    about = f"{plural(lengths.chunks, 'chunk')} in bins of {lengths.width} tokens, including the headings."
    return part(
        "lengths", words=about,
        bars=Html(charts.columns("lengths", "Length of chunks in tokens", about, bars, marks, limit, whole=True)),
        cut=part("note", id="cut", mood=note[0], title=note[1], words=note[2]), table=table("Bins", ("tokens", "#chunks"), rows),
    )  # fmt: skip


def _failures(report: RunReport) -> str:
    body = ["".join(_group(group) for group in report.failures)]
    if report.failures_untold:
        words = (
            f"{plural(report.failures_untold, 'more document')} had failed before this run and had not changed; "
            "a later run found the same, so they are listed in that run's report."
        )
        body.append(f'<p class="soft">{escape(words)}</p>')
    if not report.totals.quarantined and not report.failures:
        body.append('<p class="note good" id="no-failures"><b>No document failed.</b></p>')
    if report.skipped:
        body += ["<h3>Left out on purpose</h3>", *(_group(group) for group in report.skipped)]
    if report.lossy:
        body.append(_losses(report))
    wide = "" if report.comparison else "wide"
    return part("failures", body=Html("\n".join(body)), wide=wide)


def _losses(report: RunReport) -> Html:
    """The documents of which parts could not be read, and what these were."""
    rows = [(part("name", title=file_name(d.uri), path=shown_path(d.uri), uri=d.uri), told(d.kinds)) for d in report.lossy]
    more = report.lossy_documents - len(rows)
    rest = Html(f'<p class="soft">and {plural(more, "more document")}</p>') if more > 0 else Html("")
    words = f"{plural(report.lossy_documents, 'document')} indexed with losses: {told(report.losses)}."
    return Html(
        f'<h3 id="losses">Parts that could not be read</h3>\n<p>{escape(words)}</p>\n{table("", ("file", "what"), rows)}\n{rest}'
    )


def _group(group: Group) -> Html:
    columns = 3 if any(failure.since for failure in group.named) else 2
    rows = [(_failed(failure), one_line(failure.detail), failure.since)[:columns] for failure in group.named]
    more = group.documents - len(group.named)
    rest = Html(f'<p class="soft">and {plural(more, "more document")}</p>') if more else Html("")
    return part(
        "group", reason=group.reason or "unknown", count=plural(group.documents, "document"), rest=rest,
        open=Html(" open" if len(group.named) <= SHOWN else ""), table=table("", ("file", "why", "since")[:columns], rows),
    )  # fmt: skip


def _failed(failure: Failure) -> Html:
    if not failure.uri:
        return part("name", title="no longer in the ledger", path=f"document {failure.id}", uri=failure.id)
    return part("name", title=file_name(failure.uri), path=shown_path(failure.uri), uri=failure.uri)


def _document(document: Document) -> Html:
    if not document.uri:
        return part("name", title="no longer in the ledger", path=f"document {document.id}", uri=document.id)
    return part("name", title=document.title or file_name(document.uri), path=shown_path(document.uri), uri=document.uri)


def _slowest(report: RunReport) -> str:
    rows = [
        (_document(one), duration(one.parse_s + one.embed_s), duration(one.parse_s), duration(one.embed_s),
         number(one.chunks), size(one.bytes))
        for one in report.slowest
    ]  # fmt: skip
    head = ("document", "#work", "#parse", "#embed", "#chunks", "#size")
    words = "Time that workers spent on them. Parsing took no time if chunks of the same bytes already existed."
    return part("documents", id="slowest", title="Slowest documents", words=words, table=table("", head, rows))


def _largest(report: RunReport) -> str:
    head = ("document", "#size", "#chunks", "#work")
    found = []
    for name, title, documents in (("largest", "Largest files", report.largest), ("longest", "Most chunks", report.longest)):
        rows = [(_document(one), size(one.bytes), number(one.chunks), duration(one.parse_s + one.embed_s)) for one in documents]
        found.append(part("documents", id=name, title=title, words="", table=table("", head, rows)).replace(' class="wide"', "", 1))
    return "\n".join(found)


def _comparison(report: RunReport) -> str:
    comparison = report.comparison
    assert comparison is not None
    rows = []
    for one in comparison.figures:
        words, shown = _FIGURES[one.name]
        sign = "±"
        if one.difference:
            sign = "+" if one.difference > 0 else "−"
        rows.append((words, shown(one.value), shown(one.before), f"{sign}{shown(abs(one.difference))}"))
    started = local_time(comparison.started_at, zone=True)
    words = f"The previous run of the same action, source and collection, started at {started}."
    verify = report.run.action in ("verify", "delete")
    compared = table("", ("", "#this run", f"#run {comparison.run}", "#difference"), rows)
    return part("comparison", before=str(comparison.run), words=words, table=compared, wide="wide" if verify else "")

"""The removal of generations: which ones no rollback leads to, what goes with them, and what searches still use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.schema import BUILDING, SUPERSEDED, writing
from pipeline.staging import Staging, open_staging
from pipeline.store.edge import EdgeStore
from tests.unit.test_garbage import age, collect, counts, edge, generation, index, keep, stage, staging

__all__ = ["edge", "staging"]  # fixtures


def test_generations_go_with_their_points_and_then_their_copies(ledger: Ledger, staging: Staging, edge: EdgeStore) -> None:
    live, before, lately, refused, building = (
        generation("docs@4", "live", 40), generation("docs", SUPERSEDED, 40), generation("docs@2", SUPERSEDED, 2),
        replace(generation("docs@3", BUILDING, 50), note="recall would fall"), generation("docs@5", BUILDING, 50),
    )  # fmt: skip
    for one in (live, lately, refused, building):
        ledger.collections.add(one)
        edge.create(one.physical, 4)
    only_theirs = keep(staging, "only the replaced generation had this")
    ledger.collections.add(replace(before, state="live"))
    edge.create(before.physical, 4)
    document = stage(ledger, "a", only_theirs)
    index(ledger, document, only_theirs)
    stage(ledger, "worked on now", keep(staging, "b"), collection=building.name)
    with writing(ledger.engine) as connection:
        connection.exec_driver_sql(f"UPDATE collections SET state = 'superseded' WHERE name = '{before.name}'")
    edge.set_alias("docs", live.physical)
    age(staging, 100)
    found = collect(ledger, staging, edge)
    assert {item.name for item in found.items if item.kind == "generation"} == {"docs", "docs@3"}
    assert {one.name for one in ledger.collections.all()} == {"docs@4", "docs@2", "docs@5"}
    assert edge.collections() == sorted(one.physical for one in (live, lately, building))
    assert counts(found) == {"generation": 2, "copy": 1}
    assert ledger.collections.dropping() == {}


@pytest.mark.parametrize(
    "other", [{"fingerprint": "1" * 64}, {"profile": '{"chunk_tokens": 9}'}, {}], ids=["model", "settings", "parser"]
)
@pytest.mark.parametrize(
    ("days", "kept"),
    [((9, 2), {"docs@2"}), ((9, 4), set()), ((0.02, 0.01), {"docs", "docs@2"}), ((40, -29), {"docs@2"}), ((40, -31), set())],
    ids=["lately", "too old", "searches may still read both", "made otherwise", "made otherwise, too old"],
)
def test_only_the_generation_that_a_rollback_leads_to_is_kept(
    days: tuple[float, float], kept: set[str], other: dict[str, Any], ledger: Ledger, edge: EdgeStore, tmp_path: Path
) -> None:
    """Negative days: the last one was made otherwise than the live one."""
    first, last = (generation(name, SUPERSEDED, abs(age)) for name, age in zip(("docs", "docs@2"), days, strict=True))
    live = generation("docs@3", "live", abs(days[1]))
    if days[1] < 0:
        last = replace(last, **other)
    for one, parser in ((last, "p"), (live, "q" if days[1] < 0 and not other else "p")):
        stage(ledger, "a", "2" * 64, collection=one.name)
        with writing(ledger.engine) as connection:
            connection.exec_driver_sql(f"UPDATE documents SET indexed_parse = '{parser}' WHERE collection = '{one.name}'")
    for one in (first, last, live):
        ledger.collections.add(one)
        edge.create(one.physical, 4)
    edge.set_alias("docs", live.physical)
    staging = open_staging(str(tmp_path / "staging"))
    collect(ledger, staging, edge)
    assert {one.name for one in ledger.collections.all()} == {"docs@3", *kept}
    if kept:
        before = ledger.collections.roll_back("docs")
        assert before is not None
        assert before[1].name == "docs@2"


def test_a_generation_that_searches_use_stays_and_is_named(ledger: Ledger, staging: Staging, edge: EdgeStore) -> None:
    old = generation("docs", SUPERSEDED, 40)
    ledger.collections.add(old)
    edge.create(old.physical, 4)
    edge.set_alias("docs", old.physical)
    found = collect(ledger, staging, edge)
    assert counts(found) == {}
    assert "kb-ingest rollback" in found.kept[0]
    assert edge.collections() == [old.physical]

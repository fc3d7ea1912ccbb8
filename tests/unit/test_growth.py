"""The estimate of what new points take, by store."""

from __future__ import annotations

from pipeline.steps.growth import growth


def test_growth_by_store_is_in_proportion_and_quantization_saves_memory_for_disk() -> None:
    embedded, server, int8, binary = growth(100_000, 384)
    assert embedded.store == "embedded store"
    # 100,000 points of 90 words took 498 MB with their graph.
    assert 0.9 < embedded.disk_bytes / 498e6 < 1.1
    assert server.memory_bytes == 1.5 * 4 * 384 * 100_000
    assert server.memory_bytes > int8.memory_bytes > binary.memory_bytes
    assert server.disk_bytes < binary.disk_bytes < int8.disk_bytes
    assert [one.memory_bytes * 10 for one in growth(100_000, 384)] == [one.memory_bytes for one in growth(1_000_000, 384)]
    assert all(one.memory_bytes == one.disk_bytes == 0 for one in growth(0, 384))

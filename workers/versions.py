"""Versions of kb-ingest, Python, the main packages, and the formats and fingerprint rules of stored data."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("celery", "kombu", "redis", "torch", "sentence-transformers", "qdrant-client", "qdrant-edge-py", "unstructured")


def versions() -> dict[str, str]:
    """Versions by name; `not installed` for a missing package."""
    return {"kb-ingest": _version("kb-ingest"), "python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def rules() -> dict[str, str]:
    """Inputs of fingerprints, and formats of stored data; a change means new work, or data that only this version reads."""
    # Imported here, because a worker's metrics only need versions.
    from pipeline.chunk.file import VERSION
    from pipeline.embed.base import FINGERPRINTED
    from pipeline.ledger.schema import SCHEMA_VERSION
    from pipeline.sandbox.extract import parse_rules
    from pipeline.store.points import SPARSE

    fixed = ", ".join(f"{name} {value}" for name, value in parse_rules().items())
    return {
        "parse fingerprint": f"{fixed}, chunk options, tokenizer",
        "embed fingerprint": ", ".join(FINGERPRINTED),
        "chunk file": f"format {VERSION}",
        "word weights": SPARSE,
        "ledger": f"schema {SCHEMA_VERSION}",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"

"""Versions of kb-ingest, Python, and the packages that decide how it behaves."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("celery", "kombu", "redis", "torch", "sentence-transformers", "qdrant-client", "qdrant-edge-py", "unstructured")


def versions() -> dict[str, str]:
    """By name; `not installed` for what is not there as a package."""
    return {"kb-ingest": _version("kb-ingest"), "python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"

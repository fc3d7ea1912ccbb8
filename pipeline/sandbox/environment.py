"""The environment of processes that read untrusted documents: it holds no secret of the worker."""

from __future__ import annotations

import os
from pathlib import Path

#: The only variables that these processes see.
_NAMES = (
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TESSDATA_PREFIX",
)
_PREFIXES = ("LC_", "PYTHON")


def environment() -> dict[str, str]:
    """The variables for such a process, which finds this package even if it is not installed."""
    found = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    found |= {"DO_NOT_TRACK": "1", "UNSTRUCTURED_DISABLE_NOTICE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # One thread: the guard's server forks, and a lock that a thread holds at that moment stays locked in the child forever.
    found |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), *found.get("PYTHONPATH", "").split(os.pathsep)]))
    return found

"""Imported by Python at start when this folder is on PYTHONPATH: workers kill themselves at a boundary, or bear another clock.

The code under test has no hooks: what it calls at the boundary named by KB_FAULT_BOUNDARY is wrapped here, in worker
processes only. Each kill takes one of the files in KB_FAULT_KILLS; when none is left, nobody dies any more.
"""

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any


def die() -> None:
    """Kill this process if a kill is left."""
    for token in sorted(Path(os.environ["KB_FAULT_KILLS"]).iterdir()):
        try:
            token.unlink()
        except FileNotFoundError:  # another process took it
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: type, name: str, *, before: bool) -> None:
    """Die before or after `owner.name` has done something."""
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before:
            die()
        result = real(*arguments, **named)
        if not before and result not in ([], set()):
            die()
        return result

    setattr(owner, name, wrapped)


def boundaries() -> dict[str, tuple[type, str, bool]]:
    """Boundary -> what to wrap."""
    from pipeline.ledger.work import Work
    from pipeline.staging.local import LocalStaging
    from pipeline.store.edge import EdgeStore
    from pipeline.store.server import ServerStore
    from pipeline.store.shards import Shards
    from workers.process.runtime import EmbedRuntime, ParseRuntime

    return {
        "claim": (Work, "claim", False),
        "parsed, chunk file not in staging": (LocalStaging, "add", True),
        "chunk file written": (LocalStaging, "add", False),
        "before upsert": (ServerStore, "upsert", True),
        "after upsert": (ServerStore, "upsert", False),
        "after delete of old points": (ServerStore, "delete_points", False),
        "before ledger commit": (Work, "indexed", True),
        "after ledger commit": (Work, "indexed", False),
        "before ack of parse": (ParseRuntime, "run", False),
        "before ack of embed": (EmbedRuntime, "run", False),
        "Edge: in upsert, before the flush": (Shards, "flush", True),
        "Edge: between flush and ledger": (EdgeStore, "upsert", False),
        "Edge: after delete of old points": (EdgeStore, "delete_points", False),
    }


def sleep(seconds: Any) -> None:
    """As time.sleep(), which calls clock_nanosleep() until a moment: libfaketime 0.9.10 refuses that when it leaves the
    monotonic clock alone."""
    select.select((), (), (), seconds)


if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    time.sleep = sleep

if os.environ.get("KB_FAULT_BOUNDARY") and "workers.process.worker" in sys.orig_argv:
    owner, name, before = boundaries()[os.environ["KB_FAULT_BOUNDARY"]]
    wrap(owner, name, before=before)

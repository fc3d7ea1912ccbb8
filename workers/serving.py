"""A host's long-running service: workers under a supervisor, and a dispatcher."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Stage
from pipeline.settings import Settings
from workers.dispatch import DispatchThread
from workers.loading import make_dispatcher
from workers.pool import HostLock, Supervisor, bury, plan

log = logging.getLogger(__name__)

#: Seconds between two sweeps; commands that wait sweep more often.
SWEEP_EVERY_S = 2.0

#: Seconds between two looks at the worker processes.
TEND_EVERY_S = 1.0


def serve(settings: Settings, stages: Sequence[str], *, until_empty: bool = False) -> None:
    """Run workers and a dispatcher until interrupted, or until nothing is open.

    Raises ConfigError when another process serves this data folder already.
    """
    ledger = Ledger.open(settings.ledger_url)
    lock = HostLock(settings.data_dir)
    if (settings.embedded_broker or settings.embedded_store) and not lock.acquire():
        raise ConfigError(f"workers of another `kb-ingest` serve {settings.data_dir} already; stop them first")
    specs = plan(settings, [Stage(stage) for stage in stages])
    log.info("workers: %s", ", ".join(spec.name() for spec in specs))
    try:
        with (
            Supervisor(settings, specs, bury(ledger, settings.max_starts)) as supervisor,
            DispatchThread(make_dispatcher(settings, ledger), SWEEP_EVERY_S),
        ):
            supervisor.run(TEND_EVERY_S, lambda: until_empty and not ledger.report.progress().open)
    finally:
        lock.release()

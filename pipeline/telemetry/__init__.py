"""What is measured and traced, and what the running code is about."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from pipeline.errors import ConfigError
from pipeline.settings import Settings, mask_url
from pipeline.telemetry.spans import Tracing

log = logging.getLogger(__name__)


def check_tracing(settings: Settings) -> None:
    """Refuse an endpoint that nothing can be sent to; raises ConfigError.

    One that was set for all programs is only warned of, and nothing is sent.
    """
    trouble = _trouble(settings.otlp_endpoint)
    if trouble and settings.otlp_is_foreign:
        log.warning("no traces are made: OTEL_EXPORTER_OTLP_ENDPOINT %s", trouble)
    elif trouble:
        raise ConfigError(f"KB_OTLP_ENDPOINT {trouble}")


def endpoint_of(settings: Settings) -> str:
    """Where spans are sent; empty: nowhere, also where the endpoint that was set for all programs is none for us."""
    endpoint = settings.otlp_endpoint
    return "" if _trouble(endpoint) and settings.otlp_is_foreign else endpoint


def _trouble(endpoint: str) -> str:
    """Why nothing can be sent to an endpoint, in words that follow its variable's name; empty: it can."""
    if not endpoint:
        return ""
    if not endpoint.startswith(("http://", "https://")):
        return f"{mask_url(endpoint)} is not the http:// or https:// address of an OTLP/HTTP receiver (port 4318)"
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:  # of a package on the way
        found = None
    return "" if found else "is set and the extra `otel` is not installed: pip install 'kb-ingest[otel]', or unset it"


def open_tracing(settings: Settings, process: str) -> Tracing:
    """Where this process sends spans as `process`; call it after a fork, as it starts a thread. Raises ConfigError."""
    endpoint = endpoint_of(settings)
    if not endpoint:
        return Tracing()
    check_tracing(settings)
    from pipeline.telemetry.otlp import OtlpTracing

    return OtlpTracing(endpoint, settings.otlp_headers.get_secret_value(), process)

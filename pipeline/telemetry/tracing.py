"""The choice of where spans go, and what is wrong with an endpoint."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.telemetry.spans import Tracing
from pipeline.urls import mask_url

log = logging.getLogger(__name__)


def check_tracing(settings: Settings) -> None:
    """Reject an endpoint that spans cannot be sent to; raises ConfigError.

    For an endpoint that was set for all programs, only log a warning and send nothing.
    """
    trouble = _trouble(settings.otlp_endpoint)
    if trouble and settings.otlp_is_foreign:
        log.warning("tracing is disabled: OTEL_EXPORTER_OTLP_ENDPOINT %s", trouble)
    elif trouble:
        raise ConfigError(f"KB_OTLP_ENDPOINT {trouble}")


def endpoint_of(settings: Settings) -> str:
    """Endpoint that spans are sent to; empty if tracing is off, or if the endpoint set for all programs is unusable here."""
    endpoint = settings.otlp_endpoint
    return "" if _trouble(endpoint) and settings.otlp_is_foreign else endpoint


def _trouble(endpoint: str) -> str:
    """Why spans cannot be sent to an endpoint, worded to follow its variable's name; empty if they can."""
    if not endpoint:
        return ""
    if not endpoint.startswith(("http://", "https://")):
        return f"{mask_url(endpoint)} is not the http:// or https:// address of an OTLP/HTTP receiver (port 4318)"
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:  # a parent package is missing
        found = None
    return "" if found else "is set and the extra `otel` is not installed: pip install 'kb-ingest[otel]', or unset it"


def open_tracing(settings: Settings, process: str) -> Tracing:
    """Tracing of this process, under the name `process`. Call it after a fork, because it starts a thread. Raises ConfigError."""
    endpoint = endpoint_of(settings)
    if not endpoint:
        return Tracing()
    check_tracing(settings)
    from pipeline.telemetry.otlp import OtlpTracing

    return OtlpTracing(endpoint, settings.otlp_headers.get_secret_value(), process)

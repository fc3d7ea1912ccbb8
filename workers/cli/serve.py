"""`kb-ingest serve`: the service that answers over HTTP."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context


@click.command()
@click.option("--host", help="Address to listen on (KB_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (KB_PORT).")
@click.pass_obj
def serve(context: Context, host: str | None, port: int | None) -> None:
    """Answer searches, uploads and questions about documents over HTTP; /openapi.json describes the endpoints.

    Without tokens (`kb-ingest token add`) only this host is served. SIGTERM and Ctrl-C finish running requests.
    """
    from workers.api.serve import serve as run

    run(context.settings(host=host, port=port))

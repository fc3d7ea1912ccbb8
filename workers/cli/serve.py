"""`kb-ingest serve`: the service that answers over HTTP."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context


@click.command()
@click.option("--host", help="Address to listen on (KB_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (KB_PORT).")
@click.option("--allow-write", is_flag=True, help="Offer tokens with the scope ingest the tool `ingest` of /mcp.")
@click.pass_obj
def serve(context: Context, host: str | None, port: int | None, allow_write: bool) -> None:
    """Answer searches, uploads and questions about documents over HTTP; /openapi.json describes the endpoints.

    /mcp speaks the Model Context Protocol. Without tokens (`kb-ingest token add`) only this host is served. SIGTERM
    and Ctrl-C finish running requests.
    """
    from workers.process.ahead import Ahead

    settings = context.settings(host=host, port=port)
    with Ahead() as ahead:
        ahead.load_model_of_questions(settings)  # before the next imports, which start threads
        from workers.api.serve import serve as run
        from workers.mcp.http import make_router

        run(settings, [make_router(allow_write=allow_write)], ahead.model)

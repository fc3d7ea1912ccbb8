"""`kb-ingest mcp`: the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context


@click.command()
@click.option("--allow-write", is_flag=True, help="Offer the tool `ingest`, which loads documents.")
@click.option("--url", help="Ask the service at this URL, with KB_TOKEN, instead of this data folder's.")
@click.pass_obj
def mcp(context: Context, allow_write: bool, url: str | None) -> None:
    """Serve the Model Context Protocol on stdin and stdout, for a client that starts this command.

    If `kb-ingest serve` runs over this data folder, it answers. KB_TOKEN limits what the client can see and do.
    """
    from workers.mcp.stdio import serve

    serve(context.settings("warning"), url, allow_write=allow_write)

"""`kb-ingest webhook`: notifications of ended runs for other programs."""

from __future__ import annotations

import logging

import rich_click as click

from workers.cli.context import Context, say


@click.group()
def webhook() -> None:
    """Check the receivers of KB_WEBHOOK_URL, which are told about every run that has ended."""


@webhook.command()
@click.pass_obj
def test(context: Context) -> int:
    """Send a sample to every receiver. Exit status 1 means that one of them did not take it."""
    import uuid

    import httpx

    from pipeline.errors import ConfigError
    from workers.jobs.webhooks import post, receivers, sample

    found = receivers(context.settings("warning"))
    if not found:
        raise ConfigError("there is no receiver; set KB_WEBHOOK_URL and KB_WEBHOOK_SECRET")
    failed = 0
    with httpx.Client(follow_redirects=False) as client:
        for receiver in found:
            try:
                status = post(client, receiver, f"test-{uuid.uuid4()}", sample())
                text = f"status {status}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                status, text = 0, type(error).__name__
            failed += not 200 <= status < 300
            say(f"{receiver.shown}: {text}", logging.INFO if 200 <= status < 300 else logging.ERROR)
    return 1 if failed else 0

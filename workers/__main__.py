"""`python -m workers` is `kb-ingest`."""

from workers.cli import main

main()

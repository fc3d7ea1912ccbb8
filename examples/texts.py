"""The words of the example documents that make_documents.py writes in office formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands under it."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()  #: a bulleted list after the paragraphs
    table: tuple[tuple[str, ...], ...] = ()  #: rows after the list, the first one is the header


#: Written as docx: what a person does who runs kb-ingest for others.
HANDBOOK = (
    Section(
        "Every day",
        (
            "Look at `kb-ingest status` once a day. It prints how many documents are in each state, how long the queues are, "
            "which workers are alive, and the documents that failed with the reason of each.",
            "Documents in the state quarantined wait for a person: they are never tried again by themselves. Read the reason, "
            "mend the cause, then run `kb-ingest retry` with the address of the document or with `--reason` and a code.",
        ),
    ),
    Section(
        "Backing up the data folder",
        (
            "Everything persistent is in one folder, the data folder: the ledger kb.db, the staged copies and, unless servers "
            "are configured, the vectors. A backup of the folder is a backup of the knowledge base.",
            "Stop the workers first, so that ledger and vectors belong together. Copy the folder with a tool that keeps sparse "
            "files sparse, for example rsync --archive --sparse, then start the workers again.",
            "To restore, put the copy in its place, set KB_DATA_DIR to it, and run `kb-ingest verify`. It counts the points of "
            "every indexed document and names what is missing. `kb-ingest verify --repair` puts that right.",
        ),
    ),
    Section(
        "Moving to another host",
        (
            "Stop kb-ingest, copy the data folder, set KB_DATA_DIR on the new host and start. Nothing is parsed or embedded "
            "again, whatever graphics card either host has, as long as the model is the same.",
        ),
    ),
    Section(
        "Adding a second host of workers",
        ("All hosts must see the same broker, vector store, ledger and staged copies, so four settings are needed on each:",),
        (
            "KB_REDIS_URL, the Redis server that carries the messages",
            "KB_QDRANT_URL, and KB_API_KEY unless the server is on the same host",
            "KB_DATABASE_URL, a PostgreSQL ledger",
            "KB_STAGING_URL, an object store or a shared folder",
        ),
    ),
    Section(
        "When the disk is full",
        (
            "Work stops with an error that names the disk; no document is charged with a failed attempt. Make room, then run "
            "`kb-ingest load` again: it goes on where it stopped.",
        ),
    ),
    Section(
        "Before an upgrade",
        (),
        (
            "Read CHANGELOG.md for the versions between yours and the new one.",
            "Make a backup of the data folder.",
            "Install the new version into its own environment with the constraints.txt of that version.",
            "Run `kb-ingest verify` before and after.",
        ),
    ),
)

#: Written as pptx: one slide each.
SLIDES = (
    Section("kb-ingest 0.1", ("Folders of documents in, answers with their sources out.",)),
    Section(
        "What it does",
        (),
        (
            "Loads txt, Markdown, HTML, PDF, office documents, mail, e-books, tables and source code",
            "Cuts them into chunks that never exceed the limit of the model",
            "Embeds them on the accelerator it finds, or on the processor",
            "Stores the vectors in Qdrant, with page, heading and position of every chunk",
        ),
    ),
    Section(
        "What it promises",
        (),
        (
            "A second load embeds only what has changed",
            "A worker that is killed loses nothing: the ledger is the truth, the queue is not",
            "A file that yields no text is never counted as a success",
            "One hostile file cannot take a worker down: parsing happens in a limited child process",
        ),
    ),
    Section(
        "Small and large",
        ("The same code runs in four sizes.",),
        (
            "One command on a laptop, nothing configured",
            "Redis and Qdrant in containers, workers on the host",
            "Everything in containers",
            "Many hosts with a shared ledger and object store",
        ),
    ),
    Section(
        "What comes next",
        (),
        (
            "Container images for several vendors of accelerators",
            "Schedules that index sources again",
            "Search that mixes words and meaning",
        ),
    ),
)

#: Written as xlsx, sheet "States".
STATES = (
    ("State", "Meaning", "Who moves it on"),
    ("pending", "staged, waits for a parse worker", "dispatcher"),
    ("parsing", "a parse worker holds its lease", "parse worker"),
    ("parsed", "its chunks are in staging, waits for an embed worker", "dispatcher"),
    ("embedding", "an embed worker holds its lease", "embed worker"),
    ("indexed", "the store holds exactly its points", "the next load, when the file changes"),
    ("quarantined", "will not be tried again by itself", "a person, with kb-ingest retry"),
    ("skipped", "seen and left out on purpose", "the next load, when the file changes"),
    ("deleted", "gone from the source and from the store", "nobody"),
)

#: Written as xlsx, sheet "Sizing": settings to look at first, by what is short.
SIZING = (
    ("What is short", "Look at", "Effect of a smaller value"),
    ("memory of the host", "KB_PARSE_WORKERS", "fewer documents are parsed at the same time"),
    ("memory for one document", "KB_PARSE_MEMORY_BYTES", "large documents are quarantined as out_of_memory earlier"),
    ("memory of the accelerator", "KB_EMBED_TOKEN_BUDGET", "smaller batches, slower embedding"),
    ("disk for staged copies", "KB_MAX_FILE_BYTES", "large files are quarantined as too_large"),
    ("time for one document", "KB_PARSE_TIMEOUT_S", "slow documents are quarantined as timeout earlier"),
    ("network to Qdrant", "KB_UPSERT_BATCH_BYTES", "more and smaller requests"),
)

#: Written as pdf.
QUICK_REFERENCE = (
    Section(
        "Load and search",
        (),
        (),
        (
            ("Command", "What it does"),
            ("kb-ingest load DIR", "load a folder and wait until it can be searched"),
            ("kb-ingest load DIR --dry-run", "print what would be added or changed, do nothing"),
            ("kb-ingest load DIR --no-wait", "return after staging; workers do the rest"),
            ("kb-ingest search 'words'", "the best chunks with their sources"),
            ("kb-ingest search 'words' --limit 3 --json", "the same for scripts"),
        ),
    ),
    Section(
        "Look and mend",
        (),
        (),
        (
            ("Command", "What it does"),
            ("kb-ingest status --watch", "states, queues, workers and failures, live"),
            ("kb-ingest retry --reason timeout", "try all documents again that took too long"),
            ("kb-ingest verify --repair", "compare ledger and store, put right what differs"),
            ("kb-ingest config", "the settings in force, secrets masked"),
        ),
    ),
    Section(
        "Exit codes",
        ("0: all done. 1: failed. 2: wrong usage. 3: finished, but some documents are quarantined. 130: interrupted with Ctrl-C.",),
    ),
    Section(
        "Ctrl-C",
        ("Interrupting a load loses nothing. Load the same folder again and it goes on with the documents that are left.",),
    ),
)

#: Written as epub through pandoc, from Markdown.
GETTING_STARTED = """
# Your first knowledge base

Choose a folder of documents that you know well, so that you can judge the answers. A few hundred files are a good start.

    kb-ingest load ~/Documents/handbooks --dry-run
    kb-ingest load ~/Documents/handbooks

The dry run prints what would be added, with the number of bytes, and changes nothing. The second command copies each file to
staging, cuts it into chunks, embeds them and waits until all can be searched.

# Asking good questions

A search compares meanings, not letters. Whole questions work better than single words: write *how do I return a damaged
parcel* instead of *returns*. Every answer names its file, and where the format has them the page and the headings above it.

# Narrowing a search

With `--filter` only some documents are searched, for example only PDF files:

    kb-ingest search "notice period" --filter media_type=application/pdf

The keys are `folder`, `uri`, `media_type` and `document_id`.

# When documents change

Load the same folder again. Files whose content is the same cost nothing but reading them; of an edited file only the
chunks with new text are embedded. Until an edited file is ready its old version goes on answering.
"""

#: Written as odt through pandoc, from Markdown.
MODEL_GUIDE = """
# Choosing an embedding model

The default, all-MiniLM-L6-v2, is small and fast, and it understands English best. Choose another when your documents are in
other languages, or when answers are too often beside the point.

## What to compare

- **Languages.** A model that was trained on English alone will not find German pages by a German question.
- **Longest input.** Text past the limit of the model is never seen by it. kb-ingest counts with the model's own tokenizer and
  makes every chunk fit, so a short limit means shorter chunks, not lost text.
- **Dimension.** Twice the numbers in a vector need twice the memory in the store.

## Changing the model

Vectors of two models cannot be compared, so a collection belongs to the model it was made with. With another `KB_MODEL`, load
into a new collection with `--collection`, compare the answers of both, and keep the better one.
"""

#: Written as rtf through pandoc, from Markdown.
GLOSSARY = """
# Words used in kb-ingest

**Chunk.** A piece of a document that the model can take in at once.

**Collection.** Documents that are searched together. Its name is an alias: behind it stands a physical collection that
belongs to one model.

**Embedding.** The list of numbers a model makes of a text; texts with similar meanings have similar numbers.

**Ledger.** The database that knows the state of every document.

**Lease.** The right of one worker to work on a document, for a limited time. When the worker dies the lease runs out and
another one takes over.

**Point.** A vector in the store, together with the text and the position of its chunk.

**Quarantine.** Where a document goes that cannot be loaded as it is, with a reason that a person can act on.

**Staging.** Where a copy of every document lies from the moment it is found, named after its content.
"""

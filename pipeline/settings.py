"""All settings, and the only place that reads the environment.

A value comes from the first of: an argument, the environment, `.env` in the working directory, `kb-ingest.toml` there.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pipeline.errors import ConfigError
from pipeline.types import Language, SearchMode
from pipeline.urls import mask_url

#: The model of every default: small, fast, Apache-2.0, and on machines without a hub in the extra `offline`.
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


#: Settings that a re-index fixes for a collection, whatever the configuration says.
PROFILE_FIELDS = ("model", "model_revision", "embed_model", "tokenizer", "chunk_tokens", "chunk_overlap", "part_tokens")


def _names(*names: str) -> AliasChoices:
    """The accepted names of a setting, ours first."""
    return AliasChoices(*names)


#: What the overlap of chunks must satisfy.
OVERLAP_RULE = "must be less than half of KB_CHUNK_TOKENS"

#: Short copies of vectors on a Qdrant server.
Quantization = Literal["none", "int8", "binary"]


class Settings(BaseSettings):
    """Everything that can be configured. Durations in seconds, sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="KB_", env_file=".env", env_file_encoding="utf-8", toml_file="kb-ingest.toml",
        extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True,
    )  # fmt: skip

    # Places
    data_dir: Path = Field(default_factory=lambda: user_data_path("kb-ingest"), description="folder for everything persistent")
    data_shared: bool = Field(False, description="let the group of the data folder read and write it; else only its owner can")
    database_url: str = Field(
        "", description="ledger database, as postgresql+psycopg://…; empty: SQLite `kb.db` in the data folder"
    )
    staging_url: str = Field("", description="staged copies, as any fsspec URL; empty: `staging/` in the data folder")
    redis_url: SecretStr = Field(
        SecretStr(""), validation_alias=_names("KB_REDIS_URL", "CELERY_BROKER_URL"),
        description="broker: redis://, rediss:// or sentinel://; empty: a folder in the data folder, and `load` starts the workers",
    )  # fmt: skip
    redis_sentinel_master: str = Field("", description="name of the Redis master that the Sentinels in KB_REDIS_URL monitor")
    qdrant_url: str = Field(
        "", validation_alias=_names("KB_QDRANT_URL", "QDRANT_URL"),
        description="URL of the Qdrant server; empty: the embedded store in the data folder",
    )  # fmt: skip
    api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names("KB_API_KEY", "QDRANT_API_KEY"),
        description="API key of the Qdrant server, and a token of `serve` with every scope",
    )
    qdrant_shards: int = Field(0, ge=0, description="shards of a new collection; 0: the server's default")
    qdrant_replicas: int = Field(0, ge=0, description="replicas of each shard of a new collection; 0: the server's default")
    qdrant_write_consistency: int = Field(
        0, ge=0, description="replicas that must confirm a write to a new collection; 0: the server's default"
    )
    qdrant_quantization: Quantization = Field(
        "none",
        description="short copies by which Qdrant searches the vectors of a new collection: int8, binary or none",
    )
    qdrant_on_disk: bool = Field(False, description="keep the vectors of a new collection on Qdrant's disk, not in its memory")
    allow_insecure: bool = Field(
        False, description="allow Qdrant without an API key, Redis without a password and webhooks without TLS on another host"
    )

    # Model and devices
    model: str = Field(DEFAULT_MODEL, description="embedding model: hub id or local folder")
    model_revision: str = Field("", description="commit of the model on the hub; empty: the newest")
    device: str = Field("auto", description="device for searches: auto, cpu, cuda, cuda:N or mps")
    ingest_device: str = Field("auto", description="device for embed workers: auto, cpu, cuda, cuda:N or mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="precision of the model; auto: a half one if the device has instructions for it",
    )
    require_gpu: bool = Field(False, description="fail instead of embedding on the CPU")
    gpu_ids: Annotated[tuple[str, ...], NoDecode] = Field((), description="GPUs to use, comma-separated; empty: all visible GPUs")
    embed_url: str = Field(
        "", validation_alias=_names("KB_EMBED_URL", "OPENAI_BASE_URL"),
        description="URL of an embedding endpoint (OpenAI-compatible or Ollama); empty: torch in the worker",
    )  # fmt: skip
    embed_api: Literal["auto", "openai", "ollama"] = Field("auto", description="API of KB_EMBED_URL; auto: detected")
    embed_model: str = Field("", description="name of the model at KB_EMBED_URL; empty: KB_MODEL")
    embed_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=_names("KB_EMBED_API_KEY", "OPENAI_API_KEY"), description="API key of KB_EMBED_URL"
    )
    tokenizer: str = Field("", description="tokenizer that counts tokens: hub id or local folder; empty: the tokenizer of KB_MODEL")
    embed_token_budget: int = Field(0, ge=0, description="maximum tokens in one model call; 0: chosen by device")

    # Chunks
    collection: str = Field(
        "documents",
        description="collection that commands use without --collection; unset: those that need an existing one take the only one",
    )
    chunk_tokens: int = Field(256, ge=16, description="maximum tokens in a chunk, including special tokens and headings")
    chunk_overlap: int = Field(0, ge=0, description="tokens repeated from the previous chunk")

    part_tokens: int = Field(
        0, ge=0, description="tokens of a part of a chunk that has a vector of its own, such as 48; 0: chunks only"
    )
    language: Language = Field(
        "auto", description="language whose stems words get: auto (that of each text), none, or a code such as en, de or fr"
    )

    # Searches
    search_mode: SearchMode = Field("hybrid", description="what searches compare: meaning (dense), words (sparse) or both (hybrid)")

    rerank_url: str = Field("", description="URL of a reranking endpoint (text-embeddings-inference, Cohere and compatible ones)")
    rerank_api: Literal["tei", "cohere"] = Field("tei", description="API of KB_RERANK_URL")
    rerank_model: str = Field("", description="folder of a cross-encoder that reranks hits; with KB_RERANK_URL: its model's name")
    rerank_api_key: SecretStr = Field(SecretStr(""), description="API key of KB_RERANK_URL")
    rerank_candidates: int = Field(50, ge=1, le=1000, description="hits that a reranker orders, of which a search returns the best")
    rerank_timeout_s: float = Field(5.0, gt=0, description="seconds after which hits are returned without reranking")

    # The service
    host: str = Field("127.0.0.1", description="address on which `serve` listens; another than loopback needs a token")
    port: int = Field(8700, ge=1, le=65535, description="port on which `serve` listens")
    token: SecretStr = Field(SecretStr(""), description="token with which `search` asks a service")
    serve_requests: int = Field(64, ge=1, description="requests that `serve` works on at once; more are told to come back")
    serve_timeout_s: float = Field(30.0, gt=0, description="seconds after which `serve` gives a request up")
    serve_query_chars: int = Field(4000, ge=1, description="maximum characters of a question to `serve`")
    serve_upload_bytes: int = Field(1 << 30, ge=1, description="maximum bytes of an upload to `serve`")

    # Discovery
    file_times: bool = Field(
        True, description="give documents the times of their files as metadata, where they have no `created` and `modified`"
    )
    hidden: bool = Field(False, description="also load hidden files and folders")
    ignore: Annotated[tuple[str, ...], NoDecode] = Field(
        (
            "node_modules", "__pycache__", "*.pyc", "*~", "~$*", "*.tmp", "*.swp", "*.part", "*.partial", "*.crdownload",
            "Thumbs.db", "desktop.ini",
        ),
        description="comma-separated patterns of names that are never loaded",
    )  # fmt: skip

    git_credentials: Path | None = Field(
        None,
        description="file of passwords and tokens for git, as of git-credential-store; empty: as git is configured",
    )
    git_timeout_s: float = Field(600.0, gt=0, description="seconds to fetch a commit of a git repository")
    web_requests_per_s: float = Field(
        2.0, gt=0, description="maximum requests per second to a website; its Crawl-delay may ask for fewer"
    )
    web_check_days: float = Field(7.0, ge=0, description="days after which pages are asked for that a sitemap calls unchanged")
    web_timeout_s: float = Field(60.0, gt=0, description="seconds to fetch a page of a website")
    web_user_agent: str = Field(
        "kb-ingest", min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_-]*(/[ -~]*)?$",
        description="name that websites see and look up in robots.txt, such as name/1.0 (+https://example.org/contact)",
    )  # fmt: skip
    web_private: bool = Field(
        False, description="let requests to `serve` load from websites and repositories with addresses that are not public"
    )

    # OCR
    ocr: Literal["auto", "never", "always"] = Field(
        "auto", description="read scanned pages and images: auto (where an engine is installed), never, always (fail without one)"
    )
    ocr_engine: Literal["auto", "rapidocr", "tesseract"] = Field("auto", description="engine of OCR; auto: by KB_OCR_LANGS")
    ocr_langs: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="languages of scans, comma-separated, such as en,de; empty: those of the engine, or English"
    )
    ocr_confidence: float = Field(0.6, ge=0, le=1, description="confidence below which OCR's lines are left out")
    ocr_page_timeout_s: float = Field(60.0, gt=0, description="seconds to read one page by OCR")
    ocr_timeout_s: float = Field(
        1200.0, gt=0, description="seconds to read the pages of one document by OCR; the rest stays unread"
    )

    # Parsing limits
    max_file_bytes: int = Field(256 << 20, gt=0, description="maximum size of a file; larger ones are quarantined as too_large")
    parse_memory_bytes: int = Field(2 << 30, gt=0, description="maximum memory for parsing one document")
    parse_timeout_s: float = Field(60.0, gt=0, description="seconds to parse one document, plus 2 s for each MB of the file")
    zip_max_part_bytes: int = Field(50 << 20, gt=0, description="maximum unpacked size of one part of an office file")
    zip_max_ratio: float = Field(100.0, gt=1, description="maximum ratio of unpacked to packed bytes in an office file")

    # Work
    parse_workers: int = Field(0, ge=0, description="parse processes on a host; 0: half of its cores, from 1 to 8")
    max_in_flight: int = Field(4096, ge=1, description="maximum number of documents between queue and index at a time")
    batch_documents: int = Field(256, ge=1, description="maximum number of small documents in one message")
    batch_bytes: int = Field(8 << 20, ge=1, description="maximum bytes of the documents in one message")
    lease_s: float = Field(60.0, gt=0, description="seconds without progress before a lease is revoked")
    max_starts: int = Field(3, ge=1, description="attempts at a document before it is quarantined as worker_lost")
    max_failure_ratio: float = Field(0.5, gt=0, le=1, description="share of failed documents above which a load stops")
    max_failure_floor: int = Field(50, ge=1, description="finished documents before KB_MAX_FAILURE_RATIO applies")
    max_delete_ratio: float = Field(0.2, ge=0, le=1, description="share of missing documents above which a sync deletes nothing")
    delete_grace: float = Field(0.0, ge=0, description="seconds for which documents missing from a source stay searchable")
    requeue_s: float = Field(30.0, gt=0, description="seconds before a message missing from an empty queue is resent")
    task_time_limit_s: int = Field(3600, gt=0, description="seconds before a running task is killed")
    upsert_batch_points: int = Field(256, ge=1, description="maximum number of points in one upsert")
    upsert_batch_bytes: int = Field(8 << 20, ge=1024, description="maximum bytes in one upsert")
    bulk_documents: int = Field(
        10_000, ge=0, description="documents in a first load from which Qdrant builds its graph after the load; 0: never"
    )
    graph_points: int = Field(
        20_000,
        ge=0,
        description="points without a graph from which the embedded store builds one after a load, for at most 250,000; 0: never",
    )
    store_timeout_s: float = Field(
        60.0, gt=0, description="timeout of a request to Qdrant or to an embedding endpoint, at most half of KB_LEASE_S"
    )
    events_days: float = Field(30.0, gt=0, description="days for which the ledger keeps the events of each document")
    steps_days: float = Field(
        7.0, gt=0, description="days after which `gc` forgets the steps of documents that have ended, and keeps only how they ended"
    )
    staged_days: float = Field(
        1.0, gt=0, description="days without use after which `gc` removes staged files that no document needs, at least an hour"
    )
    rollback_days: float = Field(
        1.0, gt=0, description="days for which a replaced generation stays that was made in the same way as the live one"
    )
    gc_days: float = Field(
        30.0, gt=0, description="days after which `gc` removes leftovers, and replaced generations that were made in another way"
    )
    runs_days: float = Field(365.0, gt=0, description="days after which `gc` forgets runs that no document is from")
    health_dir: Path | None = Field(None, description="folder for heartbeat files of this service's processes; empty: disabled")
    flower_auth: SecretStr = Field(
        SecretStr(""), validation_alias=_names("KB_FLOWER_AUTH", "FLOWER_BASIC_AUTH"),
        description="user:password of the Flower dashboard, which does not start without them",
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="minimum log level")
    log_format: Literal["text", "json"] = Field("text", description="human-readable log lines, or one JSON object per line")
    otlp_endpoint: str = Field(
        "", validation_alias=_names("KB_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OTLP/HTTP receiver of traces, e.g. http://127.0.0.1:4318 (extra `otel`); empty: no traces",
    )  # fmt: skip
    otlp_headers: SecretStr = Field(
        SecretStr(""), validation_alias=_names("KB_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
        description="headers for KB_OTLP_ENDPOINT: name=value, comma-separated",
    )  # fmt: skip

    webhook_url: SecretStr = Field(
        SecretStr(""), description="comma-separated https:// addresses that are told about each run that has ended; empty: none"
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="key of the signatures for KB_WEBHOOK_URL; whsec_ and base64, or any other text"
    )

    @field_validator("gpu_ids", "ignore", "ocr_langs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("chunk_overlap")
    @classmethod
    def _overlap_is_small(cls, overlap: int, info: ValidationInfo) -> int:
        if overlap >= info.data.get("chunk_tokens", 2 * overlap + 2) // 2:
            raise ValueError(OVERLAP_RULE)
        return overlap

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Order of the sources, the strongest first."""
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def embedded_broker(self) -> bool:
        """Whether messages travel through a folder instead of Redis."""
        return not self.redis_url.get_secret_value()

    @property
    def embedded_store(self) -> bool:
        """Whether vectors live in the data folder instead of a Qdrant server."""
        return not self.qdrant_url

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.database_url or f"sqlite:///{self.data_dir / 'kb.db'}"

    @property
    def staging_location(self) -> str:
        """Folder or fsspec URL of the staged copies."""
        return self.staging_url or str(self.data_dir / "staging")

    @property
    def retry_s(self) -> float:
        """Seconds that a call to a server is tried again. With the last try's own timeout it ends within a lease: work that
        shows no progress for longer is taken back and charged to its documents, and an outage is not their fault."""
        return min(20.0, self.lease_s / 3)

    @property
    def request_timeout_s(self) -> float:
        """Timeout of one request to a server; see `retry_s`."""
        return min(self.store_timeout_s, self.lease_s / 2)

    @property
    def otlp_is_foreign(self) -> bool:
        """Whether the receiver of traces is the one that was set for all programs, not for this one."""
        found = _Receivers()
        return not found.ours and bool(found.all_programs) and found.all_programs == self.otlp_endpoint

    @property
    def umask(self) -> int:
        """What others may not do with the files of the data folder."""
        return 0o007 if self.data_shared else 0o077

    def prepare(self) -> Settings:
        """Make the data folder and its parts, closed to others; return self. One that exists keeps its mode.

        Raises ConfigError where the folder cannot be made or written.
        """
        try:
            if not self.data_dir.is_dir():
                self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self.data_shared:
                    self.data_dir.chmod(0o2770)  # what is made inside belongs to its group, whoever makes it
            for part in ("staging", "hf_cache"):
                (self.data_dir / part).mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write the data folder {self.data_dir}: {error.strerror}; set KB_DATA_DIR") from error
        return self

    def of_collection(self, profile: str) -> Settings:
        """These settings with those on top that hold for one collection: a JSON object of PROFILE_FIELDS.

        Raises ConfigError where the two contradict each other.
        """
        fixed = {name: value for name, value in json.loads(profile).items() if name in PROFILE_FIELDS}
        if "model" in fixed:  # a profile of a version without parts
            fixed.setdefault("part_tokens", 0)
        made = self.model_copy(update=fixed) if fixed else self
        if made.chunk_overlap >= made.chunk_tokens // 2:
            raise ConfigError(f"KB_CHUNK_OVERLAP: {OVERLAP_RULE}, here {made.chunk_tokens}")
        return made

    def masked(self) -> dict[str, object]:
        """All values for people: secrets and passwords in URLs replaced by `****`."""
        shown: dict[str, object] = {}
        for name, value in self:
            if name == "redis_url":
                value = mask_url(self.redis_url.get_secret_value())
            elif isinstance(value, SecretStr):
                value = "****" if value.get_secret_value() else ""
            elif name.endswith(("_url", "_endpoint")):
                value = mask_url(str(value))
            elif value is None:
                value = ""
            elif isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Path):
                value = str(value)
            shown[name] = value
        return shown


class _Receivers(BaseSettings):
    """The two variables of a receiver of traces, kept apart."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", env_ignore_empty=True)

    ours: str = Field("", validation_alias="KB_OTLP_ENDPOINT")
    all_programs: str = Field("", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")


def load_settings(**overrides: object) -> Settings:
    """Read the settings; `overrides` by field name win over everything.

    Raises ConfigError with one line that names the variable and what is wrong with it.
    """
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"kb-ingest.toml or .env cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "KB_" + str(first["loc"][0]).upper().removeprefix("KB_")
        raise ConfigError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None

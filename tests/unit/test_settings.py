"""Where settings come from, which of two wins, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import DEFAULT_MODEL, Settings, load_settings
from pipeline.urls import mask_url


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings read files of the working directory."""
    monkeypatch.chdir(tmp_path)


def write(env: str = "", toml: str = "") -> None:
    Path(".env").write_text(env, encoding="utf-8")
    Path("kb-ingest.toml").write_text(toml, encoding="utf-8")


def test_defaults_need_nothing() -> None:
    settings = load_settings()
    assert settings.embedded_broker
    assert settings.embedded_store
    assert settings.model == DEFAULT_MODEL
    assert settings.ledger_url == f"sqlite:///{settings.data_dir / 'kb.db'}"
    assert settings.staging_location == str(settings.data_dir / "staging")


@pytest.mark.parametrize(
    ("argument", "environment", "env_file", "toml", "expected"),
    [
        ("a", "b", "c", "d", "a"),
        (None, "b", "c", "d", "b"),
        (None, None, "c", "d", "c"),
        (None, None, None, "d", "d"),
        (None, "", "c", "d", "c"),
    ],
)
@pytest.mark.parametrize("name", ["model", "qdrant_url"])
def test_the_strongest_source_wins(
    name: str,
    argument: str | None,
    environment: str | None,
    env_file: str | None,
    toml: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(f"KB_{name.upper()}={env_file}\n" if env_file else "", f'{name} = "{toml}"\n')
    if environment is not None:
        monkeypatch.setenv(f"KB_{name.upper()}", environment)
    assert getattr(load_settings(**{name: argument}), name) == expected


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("CELERY_BROKER_URL", "redis_url"),
        ("QDRANT_URL", "qdrant_url"),
        ("QDRANT_API_KEY", "api_key"),
        ("OPENAI_BASE_URL", "embed_url"),
        ("OPENAI_API_KEY", "embed_api_key"),
    ],
)
def test_names_of_other_tools_are_read_and_ours_win(variable: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def value() -> str:
        found = getattr(load_settings(), field)
        return found if isinstance(found, str) else found.get_secret_value()

    monkeypatch.setenv(variable, "redis://theirs")
    assert value() == "redis://theirs"
    monkeypatch.setenv(f"KB_{field.upper()}", "redis://ours")
    assert value() == "redis://ours"


def test_a_foreign_name_in_the_environment_beats_ours_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("KB_QDRANT_URL=http://file\n")
    monkeypatch.setenv("QDRANT_URL", "http://environment")
    assert load_settings().qdrant_url == "http://environment"


@pytest.mark.parametrize("variable", ["API_KEY", "REDIS_URL", "EMBED_URL", "EMBED_API_KEY", "MODEL", "DEVICE"])
def test_bare_names_belong_to_others(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key named API_KEY is some other tool's secret and must not travel to Qdrant."""
    before = load_settings()
    monkeypatch.setenv(variable, "not ours")
    assert load_settings() == before


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_GPU_IDS", "0, 2,")
    monkeypatch.setenv("KB_IGNORE", "*.bak,build")
    settings = load_settings()
    assert settings.gpu_ids == ("0", "2")
    assert settings.ignore == ("*.bak", "build")
    monkeypatch.delenv("KB_IGNORE")
    write(toml='ignore = ["a", "b"]\n')
    assert load_settings().ignore == ("a", "b")


def test_data_dir_is_absolute_and_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_settings(data_dir="kb").data_dir == tmp_path / "kb"
    assert load_settings(data_dir="~/kb").data_dir == tmp_path / "home" / "kb"


def test_prepare_makes_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "new" / "data").prepare()
    assert sorted(path.name for path in settings.data_dir.iterdir()) == ["hf_cache", "staging"]
    assert settings.prepare() is settings


def test_prepare_names_the_folder_it_cannot_make(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"file/data.*KB_DATA_DIR"):
        load_settings(data_dir=tmp_path / "file" / "data").prepare()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KB_CHUNK_TOKENS", "many"),
        ("KB_CHUNK_TOKENS", "1"),
        ("KB_DTYPE", "int3"),
        ("KB_PARSE_TIMEOUT_S", "0"),
        ("KB_ALLOW_INSECURE", "perhaps"),
    ],
)
def test_an_error_is_one_line_that_names_the_variable(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable}: [^\n]+$"):
        load_settings()


@pytest.mark.parametrize("content", [b"model = \n", b"model = 'x\n", b"\xff\xfe"])
def test_a_broken_toml_file_is_a_config_error(content: bytes) -> None:
    Path("kb-ingest.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"kb-ingest\.toml"):
        load_settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().model = "other"  # type: ignore[misc]


def test_masked_shows_no_secret() -> None:
    settings = load_settings(
        redis_url="redis://user:hunter2@r:6379/0",
        database_url="postgresql+psycopg://kb:hunter2@db/kb",
        staging_url="s3://key:hunter2@bucket",
        qdrant_url="http://user:hunter2@q:6333",
        embed_url="http://user:hunter2@e:11434",
        api_key="hunter2",
        embed_api_key="hunter2",
        otlp_endpoint="http://user:hunter2@c:4318",
        otlp_headers="x-key=hunter2",
    )
    shown = settings.masked()
    assert "hunter2" not in repr(shown)
    assert "hunter2" not in repr(settings.redis_url)
    assert shown["redis_url"] == "redis://user:****@r:6379/0"
    assert shown["database_url"] == "postgresql+psycopg://kb:****@db/kb"
    assert shown["api_key"] == "****"
    assert set(shown) == set(Settings.model_fields)


def test_masked_tells_unset_secrets_from_set_ones() -> None:
    shown = load_settings().masked()
    assert shown["api_key"] == ""
    assert shown["redis_url"] == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:p@h:6379/0", "redis://:****@h:6379/0"),
        ("redis://u:p@h", "redis://u:****@h"),
        ("http://u:p%40q@[::1]:6333/x?y=1", "http://u:****@[::1]:6333/x?y=****"),
        ("redis://u:a@b@h/0", "redis://u:****@h/0"),
        ("redis://u:a/b@h/0", "****"),
        ("redis://u:a#b@h/0", "****"),
        ("redis://:p@h/0;x", "redis://:****@h/0;x"),
        ("sentinel://:p@one:1;sentinel://:p@two:2/0?a=b", "sentinel://:****@one:1;sentinel://:****@two:2/0?a=****"),
        ("http://token@h:4318/v1/traces", "http://****@h:4318/v1/traces"),
        ("https://h/v1/traces?api_key=k&&x=1=2;y=3&flag", "https://h/v1/traces?api_key=****&x=****&****"),
        ("https://h/x#token", "https://h/x#****"),
        ("sqlite:////srv/kb.db", "sqlite:////srv/kb.db"),
        ("", ""),
    ],
)
def test_mask_url(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_an_overlap_is_less_than_half_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(chunk_tokens=100, chunk_overlap=49).chunk_overlap == 49
    monkeypatch.setenv("KB_CHUNK_OVERLAP", "50")
    with pytest.raises(ConfigError, match=r"^KB_CHUNK_OVERLAP: must be less than half of KB_CHUNK_TOKENS$"):
        load_settings(chunk_tokens=100)
    with pytest.raises(ConfigError, match=r"half of KB_CHUNK_TOKENS, here 64$"):
        load_settings(chunk_tokens=200).of_collection('{"chunk_tokens": 64}')

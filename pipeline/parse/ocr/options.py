"""Which engine reads pages without text here, and what must be installed where there is none."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Final, Literal

from pipeline.errors import ConfigError, InstallationError
from pipeline.parse.ocr.tesseract import installed_languages, installed_version
from pipeline.settings import Settings

Engine = Literal["", "rapidocr", "tesseract"]
RAPIDOCR: Final = "rapidocr"
TESSERACT: Final = "tesseract"

#: Command that installs RapidOCR beside kb-ingest.
INSTALL = "pip install 'kb-ingest[ocr]'"
#: Modules that RapidOCR needs.
_MODULES = ("rapidocr", "onnxruntime")
#: Languages whose letters the models in RapidOCR's package know, by their ISO 639-1 codes.
_RAPID = frozenset(
    ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "hu", "pl", "cs", "ro", "tr", "ca", "id", "zh", "ja")
)
#: Tesseract's names of languages.
_NAMES = {
    "en": "eng", "de": "deu", "fr": "fra", "es": "spa", "it": "ita", "pt": "por", "nl": "nld", "sv": "swe", "da": "dan",
    "no": "nor", "fi": "fin", "hu": "hun", "pl": "pol", "cs": "ces", "ro": "ron", "tr": "tur", "ca": "cat", "id": "ind",
    "zh": "chi_sim", "ja": "jpn", "ru": "rus", "uk": "ukr", "bg": "bul", "el": "ell", "ar": "ara", "he": "heb", "hy": "hye",
    "ko": "kor", "hi": "hin", "th": "tha", "vi": "vie",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OcrOptions:
    """How pages without text are read, once it is known what is installed."""

    engine: Engine = ""  #: empty: none reads them
    languages: str = ""  #: as the engine names them, with + between them
    version: str = ""  #: of the engine
    confidence: float = 0.6  #: lines of less are left out
    page_s: float = 60.0  #: seconds for a page
    document_s: float = 1200.0  #: seconds for all pages of a document
    hint: str = ""  #: what to do so that they are read; empty where they are, or where nobody wants it

    @classmethod
    def from_settings(cls, settings: Settings) -> OcrOptions:
        """The engine for these settings on this machine.

        Raises ConfigError for a language without a name, InstallationError where KB_OCR=always and no engine is installed.
        """
        if settings.ocr == "never":
            return cls()
        wanted = settings.ocr_langs or ("en",)
        for name in wanted:
            if name not in _NAMES and name not in _NAMES.values():
                raise ConfigError(f"KB_OCR_LANGS: {name!r} is no language that OCR knows; those are {', '.join(sorted(_NAMES))}")
        made = _engine(settings.ocr_engine, wanted)
        if isinstance(made, str):
            if settings.ocr == "always":
                raise InstallationError(f"KB_OCR=always, but no engine for the languages {', '.join(wanted)} is here: {made}")
            return cls(hint=made)
        engine, languages, version = made
        return cls(engine, languages, version, settings.ocr_confidence, settings.ocr_page_timeout_s, settings.ocr_timeout_s)

    def fingerprint(self) -> str:
        """Identifies what determines the text of a page that is read: 8 hexadecimal digits."""
        chosen = {name: value for name, value in asdict(self).items() if name in ("engine", "languages", "version", "confidence")}
        return hashlib.sha256(json.dumps(chosen if self.engine else {}, sort_keys=True).encode()).hexdigest()[:8]


def _engine(asked: str, languages: tuple[str, ...]) -> tuple[Engine, str, str] | str:
    """Engine, its languages and its version; or what to install."""
    codes = {_code(name) for name in languages}
    suits = asked == RAPIDOCR or (asked == "auto" and codes <= _RAPID)
    if suits and all(importlib.util.find_spec(name) is not None for name in _MODULES):
        return RAPIDOCR, "", metadata.version(RAPIDOCR)
    missing = sorted({_NAMES[code] for code in codes} - installed_languages())
    if suits and (asked == RAPIDOCR or missing):
        return f"to read it: {INSTALL}"
    if not missing:
        return TESSERACT, "+".join(_NAMES[_code(name)] for name in languages), installed_version()
    packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
    return f"to read it: apt-get install tesseract-ocr {packages}"


@cache
def _codes() -> dict[str, str]:
    return {name: code for code, name in _NAMES.items()}


def _code(language: str) -> str:
    """The code of a language that is named by it or as Tesseract does."""
    return _codes().get(language, language)

"""Media types with a parser, and the choice between them by content and name."""

from __future__ import annotations

import json
import re

PLAIN = "text/plain"
MARKDOWN = "text/markdown"
RST = "text/x-rst"
HTML = "text/html"
SOURCE = "text/x-source"
XML = "application/xml"
SVG = "image/svg+xml"
NOTEBOOK = "application/x-ipynb+json"
SUBTITLES = "text/vtt"
CATALOG = "text/x-gettext-translation"
CALENDAR = "text/calendar"
CARDS = "text/vcard"
LATEX = "text/x-tex"
ORG = "text/x-org"
ASCIIDOC = "text/x-asciidoc"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
PDF = "application/pdf"
RTF = "application/rtf"
EPUB = "application/epub+zip"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
XLS = "application/vnd.ms-excel"
DJVU = "image/vnd.djvu"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EML = "message/rfc822"
MBOX = "application/mbox"
ZIP = "application/zip"
TAR = "application/x-tar"
COMPRESSED = "application/gzip"
SEVENZIP = "application/x-7z-compressed"
MSG = "application/vnd.ms-outlook"
PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
WEBP = "image/webp"
#: Images whose text OCR can read, with their first bytes.
_IMAGES = ((b"\x89PNG\r\n", PNG), (b"\xff\xd8\xff", JPEG), (b"II*\0", TIFF), (b"MM\0*", TIFF))
IMAGES = frozenset((PNG, JPEG, TIFF, WEBP))
#: A record of a file, as `record_documents` writes it; no file has this type, and no document is shown with it.
RECORD = "application/x-kb-record"

_SOURCE_SUFFIXES = (
    "py pyi pyx pxd ipy rb pl pm t php phtml js mjs cjs jsx ts mts cts tsx vue svelte java kt kts scala groovy gradle clj "
    "cljs edn cs fs fsx vb c h cc cpp cxx hh hpp hxx inl ino m mm swift go rs zig nim d v sv vhd vhdl asm s lua r jl "
    "hs lhs ml mli elm erl hrl ex exs lisp lsp el scm rkt f f77 f90 f95 for pas pp dpr ada adb ads cob cbl sql sh bash "
    "zsh fish ksh csh ps1 psm1 bat cmd awk sed tcl mk mak make cmake ninja bazel bzl nix dockerfile tf hcl proto thrift "
    "graphql gql css scss sass less styl xsl xslt xsd wsdl rng dtd plist yaml yml toml ini cfg conf cnf properties env "
    "editorconfig service desktop patch diff sty cls bib jinja j2 tmpl tpl erb ejs hbs mustache haml pug coffee dart "
    "sol vim glsl hlsl wgsl cu cuh cl rego"
)
_TEXT_SUFFIXES = {
    **dict.fromkeys(("txt", "text", "log", "asc", "nfo", "readme", "me", "man"), PLAIN),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx", "qmd", "rmd"), MARKDOWN),
    **dict.fromkeys(("rst", "rest"), RST),
    **dict.fromkeys(("html", "htm", "xhtml", "shtml"), HTML),
    "csv": CSV,
    **dict.fromkeys(("tsv", "tab"), TSV),
    **dict.fromkeys(
        ("xml", "nxml", "jats", "tei", "dbk", "docbook", "fb2", "dita", "ditamap", "xbrl", "rss", "atom", "kml", "gpx"), XML
    ),
    "svg": SVG,
    "ipynb": NOTEBOOK,
    **dict.fromkeys(("srt", "vtt", "sbv"), SUBTITLES),
    **dict.fromkeys(("po", "pot"), CATALOG),
    **dict.fromkeys(("ics", "ical", "ifb"), CALENDAR),
    **dict.fromkeys(("vcf", "vcard"), CARDS),
    **dict.fromkeys(("tex", "ltx", "latex"), LATEX),
    "org": ORG,
    **dict.fromkeys(("adoc", "asciidoc"), ASCIIDOC),
    **dict.fromkeys(("json", "geojson", "jsonld", "webmanifest"), JSON),
    **dict.fromkeys(("jsonl", "ndjson", "ldjson"), JSON_LINES),
    **dict.fromkeys(("eml", "emlx"), EML),
    **dict.fromkeys(("mbox", "mbx"), MBOX),
    **dict.fromkeys(_SOURCE_SUFFIXES.split(), SOURCE),
}
#: Types whose records can be documents of their own.
HOLDING_RECORDS = frozenset((JSON, JSON_LINES, CSV, TSV))
_SOURCE_NAMES = {"makefile", "gnumakefile", "dockerfile", "containerfile", "rakefile", "gemfile", "vagrantfile", "jenkinsfile",
                 "cmakelists.txt", "meson.build", "requirements.txt", "constraints.txt", "go.mod", "go.sum"}  # fmt: skip

#: Suffixes of binary kinds: where the content is text nevertheless, the content alone decides.
BINARY_SUFFIXES = {
    "pdf": PDF, "docx": DOCX, "docm": DOCX, "dotx": DOCX, "pptx": PPTX, "xlsx": XLSX, "xlsm": XLSX, "epub": EPUB, "odt": ODT,
    "ott": ODT, "odp": ODP, "otp": ODP, "ods": ODS, "ots": ODS, "rtf": RTF, "msg": MSG, "doc": DOC, "dot": DOC, "ppt": PPT,
    "pps": PPT, "xls": XLS, "xlt": XLS, "djvu": DJVU, "djv": DJVU,
}  # fmt: skip
#: Of these, programs on the Web write pages and tables as text under the names of old office files.
OFTEN_TEXT = frozenset((DOC, XLS))
#: First bytes of sheets of Excel 2 to 4, which are no containers; later ones are seldom outside of one.
_SHEETS = (b"\x09\0\x04\0", b"\x09\x02\x06\0", b"\x09\x04\x06\0", b"\x09\x08\x08\0", b"\x09\x08\x10\0")

#: First bytes of kinds without a parser, and the names of these kinds.
FOREIGN = (
    (b"\x89PNG\r\n", "PNG image"), (b"\xff\xd8\xff", "JPEG image"), (b"GIF87a", "GIF image"), (b"GIF89a", "GIF image"),
    (b"II*\0", "TIFF image"), (b"MM\0*", "TIFF image"), (b"\0\0\1\0", "icon"), (b"8BPS", "Photoshop image"),
    (b"\x7fELF", "executable"), (b"\xca\xfe\xba\xbe", "executable"), (b"\xcf\xfa\xed\xfe", "executable"),
    (b"\0asm", "WebAssembly"), (b"!<arch>\n", "archive"), (b"\x28\xb5\x2f\xfd", "zstd archive"),
    (b"Rar!\x1a\x07", "rar archive"), (b"ID3", "MP3 audio"), (b"OggS", "Ogg audio"), (b"fLaC", "FLAC audio"),
    (b"SQLite format 3\0", "SQLite database"), (b"wOFF", "font"), (b"wOF2", "font"), (b"OTTO", "font"),
    (b"\0\1\0\0\0", "font"), (b"%!PS-Adobe", "PostScript"), (b"\xed\xab\xee\xdb", "RPM package"), (b"PAR1", "Parquet table"),
    (b"\xffWPC", "WordPerfect document"), (b"\xdb\xa5-\0", "Word 2 document"), (b"\x31\xbe\0\0", "Windows Write document"),
    (b"\xff\0\x02\0\x04\x04", "Works spreadsheet"), (b"\0\0\x02\0\x06\x04", "Lotus 1-2-3 sheet"),
    (b"\0\0\x1a\0", "Lotus 1-2-3 sheet"), (b"\x01\xfe2\0", "Works document"),
)  # fmt: skip

_FOREIGN_MAGIC = tuple(magic for magic, _ in FOREIGN)

#: One piece of the prolog before the root of a page or picture. A pattern for the whole prolog would be exponential.
_PROLOG = re.compile(r"\s+|<\?xml[^>]{0,200}>|<!--.{0,4000}?-->", re.I | re.S)
_HTML_ROOT = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.I)
_SVG_ROOT = re.compile(r"<(?:!doctype\s+)?svg\b", re.I)
_MAIL_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60}):")
#: Minimum number of header fields in a mail: From, one of _MAIL_FIELDS, and another.
_MIN_MAIL_FIELDS = 3
_MAIL_FIELDS = frozenset({"date", "received", "message-id"})
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


def is_lfs_pointer(head: bytes, name: str) -> bool:
    """Whether the file that starts with `head` is a pointer to one that Git LFS has not fetched; plain text may quote pointers."""
    return head.startswith(_LFS_POINTER) and _TEXT_SUFFIXES.get(suffix(name)) != PLAIN


def image_kind(head: bytes) -> str | None:
    """The media type of the image that starts with `head`, if OCR can read it."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    return next((kind for magic, kind in _IMAGES if head.startswith(magic)), None)


def foreign_kind(head: bytes) -> str | None:
    """The kind of the file that starts with `head`, if it is a well-known one without a parser."""
    if head.startswith(_FOREIGN_MAGIC):
        return next(kind for magic, kind in FOREIGN if head.startswith(magic))
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        return f"{head[8:12].decode().strip()} media"
    if head[4:8] == b"ftyp":
        return "MP4 or HEIF media"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "BMP image"
    if head.startswith(b"MZ") and b"\0" in head[:64]:
        return "executable"
    if head.startswith((b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")):
        return "MP3 audio"
    return None


#: Endings of files that are one compressed file.
COMPRESSIONS = ("gz", "bz2", "xz")

#: Endings of tars that are compressed as a whole.
_TARS = ("tgz", "tbz", "tbz2", "txz", "tar.gz", "tar.bz2", "tar.xz")


def archive_kind(head: bytes, name: str) -> str | None:
    """The media type of the archive that starts with `head`; None for other files, and for zips, which have a directory."""
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")):
        return TAR if name.lower().endswith(_TARS) else COMPRESSED
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return SEVENZIP
    return TAR if head[257:262] == b"ustar" else None


def office_kind(head: bytes) -> str | None:
    """The media type of the office file or DjVu document that starts with `head`, where it is no container."""
    if head.startswith(b"AT&TFORM") and head[12:16] in (b"DJVU", b"DJVM"):
        return DJVU
    return XLS if head.startswith(_SHEETS) else None


def may_hold_records(name: str) -> bool:
    """Whether a file with this name may consist of records, compressed or not."""
    last = suffix(name)
    return _TEXT_SUFFIXES.get(suffix(name[: -len(last) - 1]) if last in COMPRESSIONS else last) in HOLDING_RECORDS


def suffix(name: str) -> str:
    """The suffix of `name` in lower case, without its dot; `rst` for `page.rst.txt`, as Sphinx names published sources."""
    stem, last = _split(_last_part(name))
    inner = _split(stem)[1] if last == "txt" else ""
    return inner if inner in ("rst", "md") else last


def _last_part(name: str) -> str:
    """The last part of a path, in lower case."""
    return name.lower().rstrip("/").rpartition("/")[2]


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix as pathlib has them, which takes ten times as long."""
    dot = name.rfind(".")
    return (name[:dot], name[dot + 1 :]) if 0 < dot < len(name) - 1 else (name, "")


def text_kind(sample: str, name: str, *, whole: bool) -> str:
    """The media type of a text that starts with `sample`.

    The name decides where its suffix is known and the content does not contradict it. `whole`: `sample` is the whole text.
    """
    ending = suffix(name)
    root = _root(sample)
    if ending in ("", "xml") and _SVG_ROOT.match(sample, root):
        return SVG
    by_name = SOURCE if _last_part(name) in _SOURCE_NAMES else _TEXT_SUFFIXES.get(ending)
    if by_name == XML:
        return HTML if _HTML_ROOT.match(sample, root) else XML
    if by_name not in (None, PLAIN):
        return by_name
    if _HTML_ROOT.match(sample, root):
        return HTML
    if by_name == PLAIN:
        return PLAIN
    start = sample.lstrip()
    if start.startswith("<?xml"):
        return XML
    if start.startswith("WEBVTT"):
        return SUBTITLES
    if start.startswith("{\\rtf"):
        return RTF
    if whole and start[:1] in ("{", "["):
        try:
            json.loads(start)
        except (ValueError, RecursionError):
            return PLAIN
        return JSON
    if _is_mail(sample[:20_000]):
        return EML
    return SOURCE if start.startswith("#!") else PLAIN


def _root(text: str) -> int:
    """The position where the root element of a page or picture would start: after declarations, comments and white space."""
    position = 0
    while piece := _PROLOG.match(text, position):
        position = piece.end()
    return position


def _is_mail(text: str) -> bool:
    """Whether `text` starts with the fields of a mail and a blank line; each line is read once."""
    names: list[str] = []
    for line in text.split("\n")[:-1]:
        if not line.strip() and len(names) >= _MIN_MAIL_FIELDS and "from" in names and not _MAIL_FIELDS.isdisjoint(names):
            return True
        if field := _MAIL_FIELD.match(line):
            names.append(field.group(1).lower())
        elif not (names and line.startswith((" ", "\t"))):  # a continued line of a field is indented
            return False
    return False

"""Local names of elements in XML vocabularies, by what they mean for the text in them."""

from __future__ import annotations

_TITLES_NAMES = "title head heading article-title book-title invention-title title-of-invention bridgehead subtitle shorttitle"
TITLES = frozenset(_TITLES_NAMES.split())
_SECTIONS_NAMES = (
    "sec section sect1 sect2 sect3 sect4 sect5 simplesect refsect1 refsect2 chapter part book article appendix app div div1 "
    "div2 div3 div4 topic concept task reference glossary preface subsection abstract ack"
)
SECTIONS = frozenset(_SECTIONS_NAMES.split())
_PARAGRAPHS_NAMES = (
    "p para simpara formalpara paragraph abstract-p claim-text v subtitle text-author shortdesc cmd note stepresult info "
    "term dt dd def l lg ab quote blockquote attrib caption figcaption desc tspan text summary mixed-citation "
    "element-citation nlm-citation bibl contrib aff"
)
PARAGRAPHS = frozenset(_PARAGRAPHS_NAMES.split())
_ITEMS_NAMES = "item li listitem list-item step substep claim clm clmstep"
ITEMS = frozenset(_ITEMS_NAMES.split())
_CODE_NAMES = "programlisting screen codeblock preformat verbatim literallayout pre"
CODE = frozenset(_CODE_NAMES.split())
_INLINE_NAMES = (
    "a abbr abbrev acronym b bold i italic em emph emphasis strong hi sub sup subscript superscript u underline tt span "
    "code codeph literal command option filename userinput varname function classname xref ref ptr link ulink ext-link uri "
    "email named-content styled-content sc monospace roman strike inline-formula citetitle q figref claim-ref crossref "
    "fn-ref mi mn mo mtext name surname given-names date year month day ph keyword image tspan rs persname placename foreign "
    "term mentioned gap seg w pc o"
)
INLINE = frozenset(_INLINE_NAMES.split())
ROWS, CELLS = frozenset(("tr", "row")), frozenset(("td", "th", "entry"))
_SILENT_NAMES = "script style annotation binary"
SILENT = frozenset(_SILENT_NAMES.split())
#: Inside these, titles belong to what is cited or shown.
_CITATIONS_NAMES = "caption ref mixed-citation element-citation citation nlm-citation biblstruct bibl patcit nplcit product"
CITATIONS = frozenset(_CITATIONS_NAMES.split())
#: Roots whose attributes are text only by accident.
_KNOWN_ROOTS_NAMES = (
    "article book tei fictionbook topic concept task reference map dita svg html chapter us-patent-grant us-patent-application "
    "patent-application-publication patdoc office-document"
)
KNOWN_ROOTS = frozenset(_KNOWN_ROOTS_NAMES.split())
#: Sections that stand under these headings wherever they are shown, if they have none of their own; in articles and patents.
HEADED = {
    "abstract": "Abstract",
    "sdoab": "Abstract",
    "subdoc-abstract": "Abstract",
    "claims": "Claims",
    "sdocl": "Claims",
    "subdoc-claims": "Claims",
    "ack": "Acknowledgments",
}
_HEADED_ROOTS_NAMES = "article us-patent-grant us-patent-application patent-application-publication patdoc"
HEADED_ROOTS = frozenset(_HEADED_ROOTS_NAMES.split())
#: Names of the headings of old patents, which stand for other things elsewhere.
PATDOC_TITLES = frozenset(("h", "b540"))
#: Elements of names and references whose parts are words, although a file may have no space between them.
SPACED = frozenset(("name", "persname", "person-group", "contrib", "aff", "element-citation", "nlm-citation", "date"))
DRAWN = frozenset(("text", "title", "desc"))

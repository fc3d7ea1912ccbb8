"""Local names of elements in XML vocabularies, by what they mean for the text in them."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TITLES = _names("title head heading article-title book-title invention-title title-of-invention bridgehead subtitle shorttitle")
SECTIONS = _names(
    "sec section sect1 sect2 sect3 sect4 sect5 simplesect refsect1 refsect2 chapter part book article appendix app div div1 "
    "div2 div3 div4 topic concept task reference glossary preface subsection abstract ack"
)
PARAGRAPHS = _names(
    "p para simpara formalpara paragraph abstract-p claim-text v subtitle text-author shortdesc cmd note stepresult info "
    "term dt dd def l lg ab quote blockquote attrib caption figcaption desc tspan text summary mixed-citation "
    "element-citation nlm-citation bibl contrib aff"
)
ITEMS = _names("item li listitem list-item step substep claim clm clmstep")
CODE = _names("programlisting screen codeblock preformat verbatim literallayout pre")
INLINE = _names(
    "a abbr abbrev acronym b bold i italic em emph emphasis strong hi sub sup subscript superscript u underline tt span "
    "code codeph literal command option filename userinput varname function classname xref ref ptr link ulink ext-link uri "
    "email named-content styled-content sc monospace roman strike inline-formula citetitle q figref claim-ref crossref "
    "fn-ref mi mn mo mtext name surname given-names date year month day ph keyword image tspan rs persname placename foreign "
    "term mentioned gap seg w pc o"
)
ROWS, CELLS = frozenset(("tr", "row")), frozenset(("td", "th", "entry"))
SILENT = _names("script style annotation binary")
#: Inside these, titles belong to what is cited or shown.
CITATIONS = _names("caption ref mixed-citation element-citation citation nlm-citation biblstruct bibl patcit nplcit product")
#: Roots whose attributes are text only by accident.
KNOWN_ROOTS = _names(
    "article book tei fictionbook topic concept task reference map dita svg html chapter us-patent-grant us-patent-application "
    "patent-application-publication patdoc office-document"
)
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
HEADED_ROOTS = _names("article us-patent-grant us-patent-application patent-application-publication patdoc")
#: Names of the headings of old patents, which stand for other things elsewhere.
PATDOC_TITLES = frozenset(("h", "b540"))
#: Elements of names and references whose parts are words, although a file may have no space between them.
SPACED = frozenset(("name", "persname", "person-group", "contrib", "aff", "element-citation", "nlm-citation", "date"))
DRAWN = frozenset(("text", "title", "desc"))

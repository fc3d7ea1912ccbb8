"""PDF: pdfium's text, in the structure that its glyphs, drawn rules, tags and bookmarks show."""

from pipeline.parse.pdf.document import parse_pdf

__all__ = ["parse_pdf"]

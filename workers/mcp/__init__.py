"""The Model Context Protocol: what the service answers, as tools and resources, on stdio and over HTTP."""

#: Tools that read, and the one that writes.
READING, INGEST = ("search", "read_document", "list_collections", "list_fields", "status"), "ingest"

#: URIs of the texts of documents, and of the rest of one after a chunk.
TEMPLATE = "kb://documents/{document_id}{?chunk_after}"

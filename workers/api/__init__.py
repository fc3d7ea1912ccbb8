"""The service that answers people, programs and assistants over HTTP: FastAPI, thin over `pipeline.search` and the ledger."""

#: In the data folder: where its service listens, and a key for this user's commands.
ANNOUNCEMENT = "serve.json"

#: Path of the Model Context Protocol.
MCP_PATH = "/mcp"

#: Maximum number of hits in one answer.
MAX_LIMIT = 200

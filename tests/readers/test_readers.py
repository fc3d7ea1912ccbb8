"""The examples of docs/search.md, run with the real LangChain and LlamaIndex, find what `kb-ingest search` finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import load_settings
from pipeline.store.server import ServerStore
from tests import documents
from tests.embed_server import WORDS_MODEL
from tests.services import REPOSITORY, Cli, embed_server, qdrant_stand_in

pytestmark = [pytest.mark.readers, pytest.mark.integration]

QUESTION = "how long is the notice period"

#: In place of the two classes that need torch: the same names, and embeddings of the tests' own endpoint.
EMBEDDINGS = {
    "endpoint.py": """
import json, os, urllib.request

def vectors(texts):
    body = json.dumps({"model": os.environ["ENDPOINT_MODEL"], "input": texts}).encode()
    with urllib.request.urlopen(urllib.request.Request(os.environ["ENDPOINT"] + "/v1/embeddings", body)) as answer:
        rows = sorted(json.load(answer)["data"], key=lambda item: item["index"])
    return [row["embedding"] for row in rows]
""",
    "langchain_huggingface.py": """
from endpoint import vectors
from langchain_core.embeddings import Embeddings

class HuggingFaceEmbeddings(Embeddings):
    def __init__(self, *, model_name):
        self.model_name = model_name

    def embed_documents(self, texts):
        return vectors(texts)

    def embed_query(self, text):
        return vectors([text])[0]
""",
    "llama_index/embeddings/huggingface.py": """
from endpoint import vectors
from llama_index.core.base.embeddings.base import BaseEmbedding

class HuggingFaceEmbedding(BaseEmbedding):
    def __init__(self, model_name):
        super().__init__(model_name=model_name)

    def _get_query_embedding(self, query):
        return vectors([query])[0]

    def _get_text_embedding(self, text):
        return vectors([text])[0]

    async def _aget_query_embedding(self, query):
        return vectors([query])[0]
""",
}

#: Told to LlamaIndex, the words of a question; what docs/search.md says in a sentence.
LLAMAINDEX_WORDS = """
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from pipeline.store.bm25 import query_weights
from qdrant_client import QdrantClient

def weigh(texts):
    found = [query_weights(text) for text in texts]
    return [one.indices for one in found], [one.values for one in found]

client = QdrantClient("http://127.0.0.1:6333")
store = QdrantVectorStore(
    "documents", client, dense_vector_name="dense", sparse_vector_name="bm25-v2", enable_hybrid=True, sparse_query_fn=weigh,
    sparse_doc_fn=weigh,
)
found = store.query(VectorStoreQuery(query_str="how long is the notice period", mode="sparse", sparse_top_k=3))
for node, score in zip(found.nodes, found.similarities):
    print(f"{score:.3f}", node.metadata["uri"], node.text)
"""


@dataclass(frozen=True)
class Loaded:
    """A collection on a server, and how to read it."""

    cli: Cli
    collection: str
    url: str
    key: str
    python: str  #: of the environment with LangChain and LlamaIndex
    environment: dict[str, str]

    def search(self, mode: str, limit: int) -> list[dict[str, Any]]:
        """What the command finds."""
        found: list[dict[str, Any]] = self.cli.answer(
            "search", QUESTION, "--mode", mode, "--limit", str(limit), "--collection", self.collection
        )
        return found

    def run(self, program: str, more: str = "") -> str:
        """What a program of the guide prints, asked of this collection; `more` runs after it."""
        assert ('"documents"' in program, '"http://127.0.0.1:6333"' in program, QUESTION in program) == (True, True, True)
        server = f"{self.url!r}, api_key={self.key!r}"
        here = program.replace('"documents"', repr(self.collection)).replace('"http://127.0.0.1:6333"', server)
        command = [self.python, "-W", "ignore:Api key is used with an insecure connection", "-c", here + more]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def readers_python() -> str:
    """The Python that has the libraries; skips where there is none, and nobody has promised one."""
    promised = os.environ.get("KB_TEST_READERS_PYTHON")
    python = promised or str(REPOSITORY / ".venv-readers" / "bin" / "python")
    if not promised and not Path(python).is_file():
        pytest.skip("no environment with LangChain and LlamaIndex: `make test-readers` makes it")
    return python


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Documents with and without pages and headings, loaded by the command."""
    python, place = readers_python(), tmp_path_factory.mktemp("readers")
    qdrant, model = qdrant_stand_in(place / "qdrant", api_key="of-the-test"), embed_server(place / "model")
    url, key = os.environ.get("KB_TEST_QDRANT_URL", ""), os.environ.get("KB_TEST_QDRANT_API_KEY", "")
    if not url:
        qdrant.start()
        url, key = f"http://127.0.0.1:{qdrant.port}", "of-the-test"
    model.start()
    endpoint, collection = f"http://127.0.0.1:{model.port}", f"kb-test-{uuid.uuid4().hex[:12]}"
    cli = Cli(
        place / "data", KB_QDRANT_URL=url, KB_API_KEY=key, KB_ALLOW_INSECURE="1", KB_EMBED_URL=endpoint,
        KB_EMBED_MODEL=WORDS_MODEL, KB_CHUNK_TOKENS="64",
    )  # fmt: skip
    for name, text in EMBEDDINGS.items():
        (place / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "packages" / name).write_text(text)
    environment = {
        **os.environ, "PYTHONPATH": f"{place / 'packages'}{os.pathsep}{REPOSITORY}", "ENDPOINT": endpoint,
        "ENDPOINT_MODEL": WORDS_MODEL,
    }  # fmt: skip
    try:
        cli.run("load", str(write_documents(place / "documents")), "--collection", collection)
        yield Loaded(cli, collection, url, key, python, environment)
    finally:
        store = ServerStore(url, key, allow_insecure=True)
        if physical := store.aliases().get(collection):
            store.drop(physical)
        store.close()
        model.stop()
        qdrant.stop()


def write_documents(folder: Path) -> Path:
    """Every text is there once: of two equal ones, the order would be a matter of chance."""
    folder.mkdir()
    documents.write(folder, "pdf")
    terms = "\n\n".join(
        f"## Article {number}\n\nThe notice period of article {number} is {'long and ' * number}{number} weeks."
        for number in range(9)
    )
    (folder / "terms of hire.md").write_text(f"# Terms of hire\n\n{terms}\n", encoding="utf-8")
    return folder


def examples() -> list[str]:
    """The programs of the guide: LangChain, LlamaIndex, LangChain with words."""
    guide = (REPOSITORY / "docs" / "search.md").read_text(encoding="utf-8")
    section = guide.partition("\n## Reading it elsewhere\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.+?)^```$", section, re.MULTILINE | re.DOTALL)


def as_printed(hits: list[dict[str, Any]]) -> list[str]:
    """Hits of the command as the examples print theirs: score, document, text."""
    assert hits
    return in_order(f"{hit['score']:.3f} {hit['uri']} {hit['text']}\n" for hit in hits)


def hits_in(printed: str) -> list[str]:
    """What an example printed, a hit each, best first."""
    hits = re.split(r"^(?=\d+\.\d{3} file:)", printed, flags=re.MULTILINE)[1:]
    assert (hits, "".join(hits)) == (sorted(hits, key=score_of, reverse=True), printed)
    return in_order(hits)


def in_order(hits: Iterable[str]) -> list[str]:
    """Hits of equal score sorted by their text, because the server leaves their order open."""
    return sorted(hits, key=lambda hit: (-score_of(hit), hit))


def texts_of(hits: Iterable[str]) -> list[str]:
    """Printed hits without their scores, sorted."""
    return sorted(hit.partition(" ")[2] for hit in hits)


def score_of(hit: str) -> float:
    return float(hit.partition(" ")[0])


def test_the_guide_has_short_examples_with_the_default_model() -> None:
    langchain, llamaindex, words = examples()
    for example in (langchain, llamaindex, words):
        assert load_settings().model in example
    for example in (langchain, llamaindex):
        assert len([line for line in example.splitlines() if line]) <= 10


@pytest.mark.parametrize("number", [0, 1], ids=["langchain", "llamaindex"])
def test_an_example_finds_what_search_finds(loaded: Loaded, number: int) -> None:
    assert hits_in(loaded.run(examples()[number])) == as_printed(loaded.search("dense", 3))


def test_langchain_with_words_finds_what_search_finds(loaded: Loaded) -> None:
    program = examples()[2]
    hybrid = loaded.search("hybrid", 50)
    assert 8 < len(hybrid) < 50  # all there is, because LangChain fuses by rank and so in another order
    assert texts_of(hits_in(loaded.run(program))) == texts_of(as_printed(hybrid))
    sparse = program.replace("RetrievalMode.HYBRID", "RetrievalMode.SPARSE")
    assert sparse != program
    assert hits_in(loaded.run(sparse)) == as_printed(loaded.search("sparse", 50))


def test_llamaindex_with_words_finds_what_search_finds(loaded: Loaded) -> None:
    assert hits_in(loaded.run(LLAMAINDEX_WORDS)) == as_printed(loaded.search("sparse", 3))


LANGCHAIN_METADATA = f"""
import json
print(json.dumps([found.metadata for found in store.similarity_search("{QUESTION}", k=50)]))
"""
LLAMAINDEX_METADATA = f"""
import json
found = index.as_retriever(similarity_top_k=50).retrieve("{QUESTION}")
print(json.dumps([{{**one.metadata, "_id": one.node_id}} for one in found]))
"""


@pytest.mark.parametrize(("number", "more"), [(0, LANGCHAIN_METADATA), (1, LLAMAINDEX_METADATA)], ids=["langchain", "llamaindex"])
def test_metadata_arrive(loaded: Loaded, number: int, more: str) -> None:
    read = json.loads(loaded.run(examples()[number], more).splitlines()[-1])
    hits = loaded.search("dense", 50)
    found = {one["_id"]: one for one in read}
    assert sorted(found) == sorted(hit["chunk_id"] for hit in hits)
    assert {hit["page_first"] for hit in hits} >= {None, 1, 2}
    for hit in hits:
        one = found[hit["chunk_id"]]
        for name in ("uri", "title", "heading_path", "page_first", "page_last"):
            assert one.get(name) == hit[name]
        assert hit["uri"].endswith(one["folder"].rpartition("/")[2] + "/" + hit["uri"].rpartition("/")[2])
        assert "/" in one["media_type"]


def test_filters_of_both_libraries_use_the_fields_at_the_top(loaded: Loaded) -> None:
    pdf = next(hit for hit in loaded.search("dense", 50) if hit["uri"].endswith(".pdf"))
    langchain, llamaindex, _ = examples()
    more = f"""
from qdrant_client import models
only = models.Filter(must=[models.FieldCondition(key="uri", match=models.MatchValue(value={pdf["uri"]!r}))])
print(sorted({{found.metadata["uri"] for found in store.similarity_search("{QUESTION}", k=50, filter=only)}}))
"""
    assert loaded.run(langchain, more).splitlines()[-1] == str([pdf["uri"]])
    more = f"""
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
only = MetadataFilters(filters=[MetadataFilter(key="uri", value={pdf["uri"]!r})])
found = index.as_retriever(similarity_top_k=50, filters=only).retrieve("{QUESTION}")
print(sorted({{one.metadata["uri"] for one in found}}))
"""
    assert loaded.run(llamaindex, more).splitlines()[-1] == str([pdf["uri"]])

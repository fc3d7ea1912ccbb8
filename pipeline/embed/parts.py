"""Vectors of the parts of a text, pooled from the same call of the model as that of the whole (late chunking).

The model has read the whole text when it makes a token's vector, so that a part knows what its words refer to. It costs no
further call. Late chunking: Günther et al. 2024, arXiv:2409.04701.
"""

from __future__ import annotations

import torch

#: Tokens that models put before and after a text; parts have none of them.
SPECIAL = 2


def most_parts(max_tokens: int, size: int) -> int:
    """Maximum number of parts of `size` tokens in a text of up to `max_tokens` tokens, special ones included."""
    return max(1, -(-(max_tokens - SPECIAL) // size))


def part_vectors(tokens: torch.Tensor, mask: torch.Tensor, size: int, most: int) -> torch.Tensor:
    """Means of the tokens of each part, (texts, most, hidden); zeros where a text has fewer parts.

    `tokens`: (texts, tokens, hidden); `mask`: (texts, tokens), 0 for padding. All parts of a text have `size` tokens, because
    the vectors of shorter ones are nearer to any question: at even distances, they overlap unless `size` divides the text. A text
    of fewer tokens is one part.
    """
    place = mask.cumsum(1) - 2  # of a token in its text, the special one before it at -1
    inner = (mask.sum(1, keepdim=True) - SPECIAL).clamp(min=1)
    count = (inner + size - 1) // size
    number = torch.arange(most, device=tokens.device)
    start = (number * (inner - size).clamp(min=0) + (count - 1) // 2) // (count - 1).clamp(min=1)
    end = (start + size).minimum(inner)
    at = place.unsqueeze(1)
    within = (at >= start.unsqueeze(2)) & (at < end.unsqueeze(2)) & (number < count).unsqueeze(2) & (mask > 0).unsqueeze(1)
    shares = within.to(tokens.dtype)
    return (shares @ tokens) / shares.sum(2, keepdim=True).clamp(min=1)

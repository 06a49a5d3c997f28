"""Tokens drawn from a model's own distribution, each by a number that was drawn beforehand."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

JUST_BELOW_1 = 1 - 2**-23  # times a float32, it is less than that


class Drawing(LogitsProcessor):
    """Leaves one token of each row, drawn at a temperature, so that greedy search takes it.

    The token is the first up to which the probabilities add up to more than the row's number. A
    row has numbers of its own, so it is not changed by the rows beside it; the library's sampling
    takes one stream of numbers for the whole batch.
    """

    def __init__(
        self, draws: Float[Tensor, "rows tokens"], num_before: int, temperature: float = 1.0
    ) -> None:
        """Keeps the numbers.

        Args:
            draws: In [0, 1), one for each token to come.
            num_before: Tokens of each row before the first that is drawn, padding included.
            temperature: By which scores are divided; 1: the model's own distribution.
        """
        self._draws, self._num_before, self._temperature = draws, num_before, temperature

    def __call__(
        self, input_ids: Int[Tensor, "rows before"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Scores of which all but the drawn token's are minus infinity."""
        draws = self._draws[:, input_ids.shape[1] - self._num_before]
        sums = (scores.float() / self._temperature).softmax(-1).cumsum(-1)
        whole = sums[:, -1]
        # Rounding makes the whole a little more or less than 1; below it there is a token left.
        aims = torch.minimum(draws * whole, whole * JUST_BELOW_1)
        tokens = torch.searchsorted(sums, aims[:, None], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)

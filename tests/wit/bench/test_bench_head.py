"""The contest of heads: all compute the same loss, and figures are of what was measured."""

import pytest
from torch import Tensor

from wit.bench import head
from wit.bench.arms import MIB, Run
from wit.bench.head import Inputs, Size, figures_of, growth, inputs_of, run
from wit.bench.result import same_work
from wit.errors import StageError

SIZE = Size(40, 300)
WAYS = ["ours", "all logits", "TRL"]


def test_every_way_computes_the_same_loss_of_the_same_targets() -> None:
    counts = same_work({way: run(way, SIZE).counts for way in WAYS})
    assert counts["targets"] == 40
    inputs = inputs_of(SIZE)
    log_probs = (inputs.hidden @ inputs.weight.T).log_softmax(-1)
    nll = [-log_probs[token, label].item() for token, label in enumerate(inputs.labels)]
    by_hand = sum((0.4 if token < 13 else 0.8) * each for token, each in enumerate(nll)) / 40
    assert counts["loss, thousandths"] == pytest.approx(1000 * by_hand, abs=1)


def test_a_head_with_other_weights_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = run("all logits", SIZE)

    def otherwise_weighted(inputs: Inputs) -> Tensor:
        return head._ours(inputs._replace(coefficients=2 * inputs.coefficients))

    monkeypatch.setattr(head, "_fused", otherwise_weighted)
    with pytest.raises(StageError, match="loss"):
        same_work({"all logits": honest.counts, "TRL": run("TRL", SIZE).counts})


def test_figures_are_of_what_was_measured() -> None:
    ours, other = [Run(2.0, 3 * MIB, {})], [Run(3.0, 12 * MIB, {})]
    speed, memory = figures_of(SIZE, {"ours": ours, "TRL": other})
    assert (speed.ours, speed.value) == ((20,), 1.5)
    assert memory.value == 0.25
    larger = Size(80, 300)
    grown = growth("tokens x 2", {SIZE: {"ours": ours}, larger: {"ours": other}}, SIZE, larger)
    assert grown.value == 4
    assert not grown.is_reached

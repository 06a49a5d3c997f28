"""What an objective takes where a study says nothing, what it refuses, and what the README says."""

import math
import re
from typing import Any

import pytest
from pydantic import ValidationError
from samples import ROOT

from wit.alignment.objectives import NAMES, OBJECTIVES, ObjectiveName
from wit.alignment_recipes import DPOKnobs
from wit.config import Study

ROW = re.compile(r"^\| `([\w-]+)` \| .+? \| (yes|no) \| (.+?) \| ([\d.]+) \| .+? \|$", re.MULTILINE)
STARTS = {"ln 2": math.log(2), "1": 1.0, "½": 0.5}


def test_what_is_left_out_is_as_the_objectives_own_paper_has_it() -> None:
    simpo = DPOKnobs(objective="simpo")
    assert (simpo.beta, simpo.gamma_beta_ratio, simpo.learning_rate) == (2.0, 0.5, 6e-7)
    assert DPOKnobs(objective="sppo-hard").beta == 0.001
    assert DPOKnobs(objective="cpo").loss_weights == {"cpo": 1.0, "sft": 1.0}
    assert DPOKnobs().loss_weights == {"dpo": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_is_kept_and_said_in_full_it_is_the_same(name: ObjectiveName) -> None:
    given = DPOKnobs(objective=name, beta=0.7, num_epochs=9)
    assert (given.beta, given.num_epochs) == (0.7, 9)
    assert DPOKnobs.model_validate(given.model_dump()) == given
    assert DPOKnobs.model_validate_json(given.model_dump_json()) == given


def test_a_term_beside_the_objective_brings_its_own_knobs_and_no_more() -> None:
    mixed = DPOKnobs(loss_weights={"dpo": 1.0, "cdpo": 0.5})
    assert mixed.label_smoothing == 0.1
    assert mixed.model_copy(update={"label_smoothing": None, "loss_weights": {"dpo": 1.0}}) == (
        DPOKnobs()
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objective": "ppo"}, "apo-zero"),
        ({"objective": ["dpo"]}, "Input should be"),
        ({"objective": "ipo", "label_smoothing": 0.1}, "is of cdpo, robust-dpo"),
        ({"gamma_beta_ratio": 0.1}, "is of simpo"),
        ({"loss_weights": {"sft": 1.0}}, "no weight of the objective itself"),
        ({"loss_weights": {"dpo": 1.0, "kto": 1.0}}, "single responses"),
        ({"loss_weights": {"dpo": 1.0, "sft": 0.0}}, "greater than 0"),
        ({"loss_weights": {"dpo": 1.0, "likelihood": 1.0}}, "sft-with-prompt"),
        ({"objective": "cdpo", "label_smoothing": 0.5}, "less than 0.5"),
        ({"adapter": "again"}, "continue"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        DPOKnobs.model_validate(given)


def test_an_adapter_can_only_go_on_where_sft_has_one() -> None:
    values: dict[str, Any] = {
        "name": "small",
        "base": {"path": "base"},
        "instructions": {"path": "rows.jsonl"},
        "preferences": {"path": "pairs.jsonl"},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "seen", "role": "select"}],
        "dpo": {"adapter": "continue"},
    }
    with pytest.raises(ValidationError, match=r"'sft\.adapter' is unset"):
        Study.model_validate(values)
    assert Study.model_validate(values | {"sft": {"adapter": {}}}).dpo.continues_adapter


def test_the_readme_has_every_objective_as_it_is() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8")
    section = section.partition("### Choosing the alignment objective")[2].partition("\n### ")[0]
    rows = {name: rest for name, *rest in ROW.findall(section)}
    assert list(rows) == list(NAMES)
    for name in NAMES:
        reference, start, beta = rows[name]
        objective, knobs = OBJECTIVES[name], DPOKnobs(objective=name)
        assert (reference == "yes") == objective.has_reference, name
        assert float(beta) == knobs.beta, name
        assert (start == "none") == (objective.at_start is None), name
        if objective.at_start is not None and start in STARTS:
            assert objective.at_start(knobs.beta) == pytest.approx(STARTS[start]), name


def test_labels_tell_a_person_what_was_asked_for() -> None:
    assert DPOKnobs().label == "DPO, beta 0.1"
    assert DPOKnobs(objective="orpo").label == "ORPO, beta 0.1"
    mixed = DPOKnobs(loss_weights={"dpo": 1.0, "sft": 0.2})
    assert mixed.label == "DPO + 0.2 sft, beta 0.1"

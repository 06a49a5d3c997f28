"""Cells, alignments and models of a study: in the tags of its run, and as a table has them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, takewhile
from typing import Any, NamedTuple

from wit.alignment.objectives import OBJECTIVES
from wit.alignment_grid import ONLY_ALIGNMENT, alignment_id
from wit.alignment_recipes import DPOKnobs
from wit.config import Study, cell_name
from wit.lineage.description import pairs_id
from wit.lineage.reader import RunRow
from wit.lineage.terms import BASE
from wit.objectives import replicates
from wit.on_policy.recipes import PairsRecipe
from wit.settings import Settings
from wit.tuning_grid import tuning_id

MAX_CELLS_LENGTH = 7000  # characters of one tag; MLflow takes 8000
NUMBER = r"\d[\d.]*(?:e[+-]\d+)?"
CELL = re.compile(
    rf"^(?P<weights>p(?P<prompt>{NUMBER})-r(?P<response>{NUMBER})(-.+)?)-s(?P<seed>\d+)"
    r"(@(?P<tuning>.+))?$"
)
Model = tuple[str, str, str | None]  # cell, stage and alignment


class Begun(Settings):
    """How far a search has come, by the names of cells."""

    cells: tuple[str, ...]
    unaligned: tuple[str, ...] = ()  # of these, as yet or for good
    untuned: tuple[str, ...] = ()  # of those, within SFT


class Alignment(NamedTuple):
    """What a study calls an alignment, and what that is."""

    name: str
    identity: str  # of its knobs; empty: it is the only one of a run that an older wit wrote
    objective: str | None
    beta: float | None
    needs: str | None = None  # before its model; None: the run was written by an older wit

    def reads(self, run: RunRow) -> bool:
        """Whether it needs what a run makes of its cell after SFT."""
        stage = run.tags["wit.stage"]
        if self.needs is None:
            objective = OBJECTIVES.get(self.objective)  # pyright: ignore[reportArgumentType]
            has_reference = objective is None or objective.has_reference
            return stage == "reference" and has_reference
        return step(stage, run.params) in self.needs.split(",")


class Named(NamedTuple):
    """What a study calls what its cells are told."""

    alignments: Sequence[Alignment]  # the main one first
    tunings: Mapping[str, str]  # by identity; empty: there is one, without a name


def named_in(study: Study) -> Named:
    """What a study names."""
    tunings = {tuning_id(knobs): name for name, knobs in study.tunings.items()}
    return Named(alignments_in(study), tunings)


def named_by(study_run: RunRow) -> Named:
    """What ``cell_tags`` wrote of a study."""
    texts = (text.split(":") for text in _from_tags("wit.tunings", study_run.tags))
    return Named(alignments_of(study_run), {identity: name for name, identity in texts})


def alignments_in(study: Study) -> list[Alignment]:
    """The alignments of a study, the main one first."""
    return [
        Alignment(name, alignment_id(knobs), knobs.objective, knobs.beta, _needs(study, knobs))
        for name, knobs in study.aligned_by.items()
    ]


def _needs(study: Study, knobs: DPOKnobs) -> str:
    """Every ``step`` between SFT and the model, as ``CellPlan`` makes them."""
    steps: list[str] = []
    responses = ["own"] * knobs.has_reference + ["mismatched"] * knobs.is_for_unpaired
    rounds = knobs.on_policy.rounds if knobs.on_policy else 1
    for number in range(1, rounds + 1):
        read = {"precision": knobs.precision}
        if knobs.on_policy is not None:
            recipe = PairsRecipe.of(knobs.on_policy, number, 0, study.judge)
            read["pairs"] = pairs_id(recipe)
            steps.append(step("pairs", read))
        steps += [step("reference", read | {"responses": one}) for one in responses]
        if number < rounds:
            of_round = {"alignment": alignment_id(knobs.of_round(number))}
            steps.append(step("dpo", of_round))
    return ",".join(steps)


def step(stage: str, params: Mapping[str, str]) -> str:
    """What a stage makes of a cell, such as ``reference@own@float32``, by the params of its run."""
    known = {
        "reference": (params.get("responses", "own"), params.get("precision"), params.get("pairs")),
        "pairs": (params.get("pairs"),),
        "dpo": (params.get("alignment"),),
    }
    return "@".join(filter(None, (stage, *known.get(stage, ()))))


def cell_tags(study: Study, begun: Begun | None = None) -> dict[str, str]:
    """Names of all cells, tunings, alignments and replicates, in as many tags as they need.

    Args:
        study: Whose.
        begun: Of a search, which has not all of its cells.
    """
    named = {
        "wit.cells": map(str, study.cells) if begun is None else begun.cells,
        "wit.tunings": (f"{name}:{tuning_id(knobs)}" for name, knobs in study.tunings.items()),
        "wit.alignments": (":".join(map(str, alignment)) for alignment in alignments_in(study)),
        "wit.replicates": map(":".join, replicates(study).items()),
    }
    tags = [_in_tags(key, names) for key, names in named.items()]
    found = {key: text for of_key in tags for key, text in of_key.items() if text}
    # Empty too: it replaces what stood there before the last of them was aligned.
    if begun is None:
        return found
    found |= _in_tags("wit.unaligned", begun.unaligned)
    return found | _in_tags("wit.untuned", begun.untuned)


def _in_tags(key: str, names: Iterable[str]) -> dict[str, str]:
    parts = [""]
    for name in names:
        if len(parts[-1]) + len(name) > MAX_CELLS_LENGTH:
            parts.append("")
        parts[-1] += f"{name} "
    return {f"{key}.{n}" if n else key: part for n, part in enumerate(parts)}


def cells_of(study_run: RunRow) -> list[str]:
    """The cells that ``cell_tags`` wrote."""
    return _from_tags("wit.cells", study_run.tags)


def replicates_of(study_run: RunRow) -> dict[str, str]:
    """Weights that were not trained, each with those whose models stand for theirs too."""
    return dict(text.split(":") for text in _from_tags("wit.replicates", study_run.tags))


def alignments_of(study_run: RunRow) -> list[Alignment]:
    """The alignments that ``cell_tags`` wrote, the main one first."""
    found = [text.split(":") for text in _from_tags("wit.alignments", study_run.tags)]
    if found:
        return [
            Alignment(name, identity, objective, float(beta), *needs)
            for name, identity, objective, beta, *needs in found
        ]
    params = study_run.params
    beta = params.get("dpo.beta")
    return [
        Alignment(
            ONLY_ALIGNMENT, "", params.get("dpo.objective"), None if beta is None else float(beta)
        )
    ]


def _from_tags(key: str, tags: Mapping[str, str]) -> list[str]:
    more = takewhile(tags.__contains__, (f"{key}.{number}" for number in count(1)))
    return "".join(tags.get(one, "") for one in (key, *more)).split()


def cell_columns(cell: str) -> dict[str, Any]:
    """What a table says of a cell of that name: its weights, its seed, its tuning."""
    found = CELL.match(cell)
    if found is None:
        return {"cell": cell, "weights": BASE}
    return {
        "cell": cell,
        "weights": found["weights"],
        "prompt_weight": float(found["prompt"]),
        "response_weight": float(found["response"]),
        "seed": int(found["seed"]),
        "tuning": found["tuning"],
    }


def model_of(row: Mapping[str, Any]) -> Model:
    """The model that a row of a table is of."""
    return row["cell"], row["stage"], row.get("alignment")


def cell_of_run(run: RunRow, known: Named) -> str:
    """What the study calls the cell of one of its runs; empty of data, which all share."""
    cell = run.tags.get("wit.cell", "")
    # The base has none.
    return cell_name(cell, known.tunings.get(run.params.get("tuning", "")))


def model_columns(study: str, run: RunRow, known: Named) -> dict[str, Any]:
    """Which model of a study a run made or measured.

    Args:
        study: Its name.
        run: One of its runs.
        known: What the study names.
    """
    columns = {
        "study": study,
        **cell_columns(cell_of_run(run, known)),
        "stage": run.params["model_stage"],
    }
    if run.params["model_stage"] != "dpo":
        return columns
    found = alignment_of(run, known.alignments)
    unknown = {"alignment": run.params.get("alignment", "unknown")}
    return columns | (_alignment_columns(found) if found else unknown)


def alignment_of(run: RunRow, known: Sequence[Alignment]) -> Alignment | None:
    """Which of the alignments made the DPO model that a run made or measured."""
    if run.params.get("model_stage") != "dpo":
        return None
    identity = run.params.get("alignment")
    found = next((one for one in known if one.identity == identity), None)
    return known[0] if found is None and len(known) == 1 else found  # or the run is of an older wit


def names_needed(known: Named) -> dict[str, str]:
    """Names of tunings, and of alignments that objective and beta do not tell, by identity."""
    counts = Counter((one.objective, one.beta) for one in known.alignments)
    alike = [one for one in known.alignments if counts[one.objective, one.beta] > 1]
    return {**known.tunings} | {one.identity: one.name for one in alike}


def _alignment_columns(alignment: Alignment) -> dict[str, Any]:
    name, _, objective, beta, _ = alignment
    return {"alignment": name, "objective": objective, "beta": beta}


def planned_models(study_run: RunRow) -> Iterable[dict[str, Any]]:
    """What a row says of every model of the plan."""
    of_all = {"study": study_run.tags["wit.study_name"], "higher_is_better": True}
    yield {**of_all, **cell_columns(BASE), "stage": BASE}
    cells, alignments = cells_of(study_run), alignments_of(study_run)
    unaligned, untuned = (
        {*_from_tags(key, study_run.tags)} for key in ("wit.unaligned", "wit.untuned")
    )
    for cell in cells:
        if cell not in untuned:
            yield {**of_all, **cell_columns(cell), "stage": "sft"}
        if cell in unaligned:
            continue
        for alignment in alignments:
            of_model = _alignment_columns(alignment)
            yield {**of_all, **cell_columns(cell), "stage": "dpo", **of_model}

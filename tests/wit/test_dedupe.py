"""`dedupe: rays`: one training stands for all weights of an objective, or is refused."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console
from samples import ROOT
from study_file import STUDY, line_of

from wit.config import Runtime, Study
from wit.display import plan_as_json, show_plan
from wit.errors import ConfigError
from wit.estimate import DataSize, Estimate
from wit.loading import load_study
from wit.objectives import objectives, replicates
from wit.plan import Plan, make_plan
from wit.weights import TokenWeights

AXIS = [0, 0.2, 0.4, 0.6, 0.8, 1]
PAPER = {"prompt": AXIS, "response": AXIS}
NUMBERS = st.sampled_from([0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1, 2])
POINTS = st.lists(
    st.tuples(NUMBERS, NUMBERS).filter(any), min_size=1, max_size=30, unique=True
).map(lambda pairs: [{"prompt": p, "response": r} for p, r in pairs])


def study(weights: Any, dedupe: str = "rays", **other: Any) -> Study:
    return Study.model_validate(
        {
            "name": "small",
            "base": {"path": "builtin"},
            "instructions": {"path": "builtin"},
            "preferences": {"path": "builtin"},
            "weights": weights,
            "dedupe": dedupe,
            "benchmarks": [{"name": "wit_choice", "role": "select"}],
            **other,
        }
    )


@given(POINTS, st.sets(st.integers(0, 9), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_every_ray_is_trained_once_with_every_seed(points: Any, seeds: set[int]) -> None:
    whole = study(points, "none", seeds=sorted(seeds))
    once = study(points, seeds=sorted(seeds))
    rays = [TokenWeights.model_validate(point).ray for point in points]
    assert len(once.cells) == len(set(rays)) * len(seeds)
    assert len(whole.cells) == len(points) * len(seeds)
    # It is the first of its ray, in the order of the grid, whatever else is trained.
    first = [rays.index(ray) == place for place, ray in enumerate(rays)]
    names = [str(weights) for weights in whole.weights]
    trained = [name for name, is_first in zip(names, first, strict=True) if is_first]
    assert [str(cell.weights) for cell in once.cells] == trained * len(seeds)
    others = replicates(once)
    assert {*trained} | {*others} == {*names}
    assert all(rays[names.index(other)] == rays[names.index(of)] for other, of in others.items())
    assert replicates(whole) == {}


def test_the_papers_35_pairs_are_21_trainings() -> None:
    assert len(study(PAPER).cells) == 21
    files = sorted((ROOT / "configs" / "studies").glob("paper-*.yaml"))
    assert len(files) == 15
    for file in files:
        assert len(load_study(file, ["dedupe=rays"]).cells) == 21
        assert len(load_study(file).cells) == 35


@pytest.mark.parametrize(
    ("sft", "says"),
    [
        ({"max_grad_norm": 1}, "max_grad_norm = 1 clips"),
        ({"max_grad_norm": 1, "normaliser": "per_role_mean"}, "sft.max_grad_norm=0"),
        ({"adam_epsilon": 1e-6}, "adam_epsilon = 1e-06"),
    ],
)
def test_where_the_scale_counts_it_is_refused(sft: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        study(PAPER, sft=sft)
    assert len(study(PAPER, "none", sft=sft).cells) == 35


def test_clipping_is_refused_whatever_the_weights_are() -> None:
    """Else a study would be refused once somebody adds a pair to it."""
    with pytest.raises(ValidationError, match="clips"):
        study([{"prompt": 0, "response": 1}], sft={"max_grad_norm": 1})


def test_where_the_scale_does_not_count_it_is_taken() -> None:
    for sft in (
        {"max_grad_norm": 1, "normaliser": "weight_sum"},
        {"adam_epsilon": 1, "normaliser": "weight_sum"},
        {"weight_decay": 0.5, "warmup_fraction": 0.5, "loss": "dft"},
        {"adapter": {}},
    ):
        assert len(study(PAPER, sft=sft).cells) == 21


def test_the_complaint_names_the_line_and_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("seeds:", "dedupe: rays\nseeds:"))
    with pytest.raises(ConfigError) as caught:
        load_study(file, ["sft.max_grad_norm=1"])
    assert caught.value.exit_code == 2
    said = str(caught.value)
    assert said.startswith(f"{file}:{line_of(file, 'dedupe')}: dedupe = 'rays': ")
    assert "'dedupe: none'" in said
    assert "\n" not in said
    with pytest.raises(ConfigError, match="'none' or 'rays'"):
        load_study(file, ["dedupe=seeds"])


def test_another_mistake_is_complained_of_alone(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("seeds:", "dedupe: rays\nseeds:"))
    for wrong in ("sft.max_grad_norm=-1", "weights=[]", "instructions.max_tokens=0"):
        with pytest.raises(ConfigError) as caught:
            load_study(file, [wrong])
        assert "dedupe" not in str(caught.value)


def test_tables_of_sources_are_part_of_an_objective() -> None:
    sources = {name: {"path": "builtin", "share": 1} for name in ("a", "b")}
    scaled = [
        {"prompt": w / 2, "response": w, "sources": {"a": {"prompt": 0, "response": w}}}
        for w in (1, 0.5)
    ]
    other = {**scaled[0], "sources": {"a": {"prompt": 0, "response": 0.5}}}
    found = study([*scaled, other], instructions={"sources": sources})
    assert len(found.cells) == 2
    assert list(replicates(found).values()) == [str(found.weights[0])]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Plan]:
    runtime = Runtime(artifact_root=tmp_path_factory.mktemp("root"))
    whole = study(PAPER, "none", seeds=[0, 1])
    return make_plan(whole, runtime), make_plan(study(PAPER, seeds=[0, 1]), runtime)


def test_no_fingerprint_changes(plans: tuple[Plan, Plan]) -> None:
    whole, once = ({a.fingerprint: str(c) for a, c in plan.artifacts()} for plan in plans)
    assert once.items() < whole.items()
    assert [a.fingerprint for a in plans[0].shared] == [a.fingerprint for a in plans[1].shared]
    cells = {str(cell.cell): cell.artifacts for cell in plans[0].cells}
    assert all(cells[str(cell.cell)] == cell.artifacts for cell in plans[1].cells)


def test_a_plan_shows_every_pair_and_marks_what_is_not_trained(plans: tuple[Plan, Plan]) -> None:
    size = DataSize(num_rows=1, tokens_per_row=1, is_estimated=False)
    cost = Estimate(
        sft_tokens=0,
        dpo_tokens=0,
        optimizer_steps=0,
        seconds=None,
        disk_bytes=None,
        peak_memory_bytes=None,
        instructions=size,
        preferences=size,
    )
    whole, once = (plan_as_json(plan, cost) for plan in plans)
    assert [found["num_cells"] for found in (whole, once)] == [70, 70]
    assert [found["num_trained_cells"] for found in (whole, once)] == [70, 42]
    assert whole["replicates"] == {}
    assert once["replicates"]["p0.4-r0.4"] == "p0.2-r0.2"
    assert len(once["replicates"]) == 14
    assert whole["objectives"] == once["objectives"]
    json.dumps(once)
    shown = StringIO()
    show_plan(Console(file=shown, width=200), plans[1], cost)
    lines = shown.getvalue().splitlines()
    [first] = [number for number, line in enumerate(lines) if "p0.2-r0.2-s1" in line]
    marked = [lines[first + n].split()[1:3] for n in range(1, 5)]
    assert marked == [["=", f"p{w}-r{w}-s1"] for w in ("0.4", "0.6", "0.8", "1")]
    assert "unmarked cell above it: 28 of 70 cells" in shown.getvalue()


def test_objectives_are_told_whether_all_are_trained_or_not() -> None:
    assert objectives(study(PAPER)) == objectives(study(PAPER, "none"))

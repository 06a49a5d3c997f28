"""One trajectory of loss and gradient norm, however a training is split, packed or spread.

``python tests/wit/training/test_equivalence.py`` records it anew, after a change that is meant to
change results; the commit says which.
"""

import json
import os
from pathlib import Path

import pytest
from trajectories import (
    CLASSES,
    ON_RANKS,
    RECIPE,
    RECORDED,
    assert_as_recorded,
    prepared,
    trajectory,
)

from wit.models import load_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return prepared(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in ON_RANKS])
def test_every_class_follows_the_recorded_trajectory(
    name: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    """Those on ranks do too: test_shards.py."""
    out = tmp_path / "out"
    assert_as_recorded(trajectory(data, out, CLASSES[name]))
    load_model(out / "model")


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.gpu)])
def test_low_precision_stays_near_the_trajectory(
    precision: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    low = RECIPE.model_copy(update={"precision": precision})
    device = "cuda" if precision == "float16" else "cpu"
    found = trajectory(data, tmp_path / "out", {"device": device, "micro_batch_size": 3}, low)
    assert found["loss"][0] == pytest.approx(recorded["loss"][0], rel=5e-3)
    assert found["loss"] == pytest.approx(recorded["loss"], rel=5e-2)
    assert found["loss"] != pytest.approx(recorded["loss"], rel=1e-6), "it was float32 all along"


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("packing", [False, True])
def test_a_gpu_follows_the_recorded_trajectory(
    attention: str, packing: bool, data: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    runtime = {"device": "cuda", "attention": attention, "packing": packing}
    found = trajectory(data, tmp_path / "out", {**runtime, "micro_batch_size": 3})
    assert found["loss"] == pytest.approx(recorded["loss"], rel=5e-3)


def record() -> None:
    from tempfile import TemporaryDirectory

    os.environ["TQDM_DISABLE"] = "1"
    with TemporaryDirectory() as folder:
        data = prepared(Path(folder))
        found = trajectory(data, Path(folder) / "out", CLASSES["1x8"])
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()

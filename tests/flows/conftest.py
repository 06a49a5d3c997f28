"""A real Prefect server, and a study that runs in seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness
from tiny import make_tiny_base


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells on a tiny base; `wit_choice` needs no generation."""
    folder = tmp_path_factory.mktemp("study")
    study = {
        "name": "tiny",
        "base": {"path": str(make_tiny_base(folder / "base"))},
        "instructions": {"path": "builtin", "max_rows": 64, "held_out_fraction": 0.2},
        "preferences": {"path": "builtin", "max_rows": 48, "held_out_fraction": 0.2},
        "weights": [{"prompt": 0, "response": 1}, {"prompt": 0.5, "response": 1}],
        "seeds": [0],
        "sft": {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 16},
        "dpo": {"learning_rate": 1e-3, "num_epochs": 1, "examples_per_step": 16},
        "benchmarks": [{"name": "wit_choice", "role": "select", "limit": 16}],
    }
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(study))
    return file

"""A real Prefect server, and a study that runs in seconds."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness
from prefect_database import put_database
from tiny import make_tiny_base

from wit.builtin import DATA_DIR
from wit.evaluation.catalogue import resolve_benchmark


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Path:
    """For the servers that commands start for themselves; not the user's."""
    return put_database(tmp_path_factory.mktemp("home") / "prefect.db", shared_folder).parent


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("prefect")
    put_database(folder / "prefect-test.db", shared_folder)
    in_folder = patch("prefect.testing.utilities.mkdtemp", lambda: str(folder))
    with in_folder, prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def prefect_url(prefect: None) -> str:
    """Of that server, for commands that would start their own."""
    url = PREFECT_API_URL.value()
    assert url
    return url


def write_rows(file: Path, num_rows: int) -> None:
    """Rows of the embedded set, and one that holds the third item of `wit_choice`."""
    [items] = [f for f in resolve_benchmark("wit_choice").files if f.suffix == ".jsonl"]
    item = json.loads(items.read_text().splitlines()[2])
    turns = [("user", item["prompt"]), ("assistant", item["choices"][item["label"]])]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    others = (DATA_DIR / "instructions.jsonl").read_text().splitlines()[: num_rows - 1]
    file.write_text("\n".join([*others, json.dumps(row)]) + "\n")


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells on a tiny base; `wit_choice` needs no generation, and a row holds an item of it."""
    folder = tmp_path_factory.mktemp("study")
    write_rows(folder / "rows.jsonl", 64)
    study = {
        "name": "tiny",
        "base": {"path": str(make_tiny_base(folder / "base"))},
        "instructions": {"path": "rows.jsonl", "held_out_fraction": 0.2},
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

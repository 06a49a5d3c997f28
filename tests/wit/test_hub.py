"""Pinned models and data sets from a hub cache on disk, without a network."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import embedded_tokenizer, save_tokenizer, write_jsonl
from transformers import LlamaConfig, LlamaForCausalLM

REVISION, UNKNOWN = "0123456789abcdef0123456789abcdef01234567", "f" * 40
OUT_OF_REACH = ("org/unloaded", "org/in-part")  # none of the weights is there, or a part of them
ROWS = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(12)]

# In a process of its own: the libraries read their environment when they are imported.
PROGRAM = """
import io, json, sys
from pathlib import Path
from rich.console import Console
from wit.artifacts import Source
from wit.config import Runtime, Study
from wit.recipes import InstructionsRecipe
from wit.data.sources import read_rows
from wit.display import show_plan
from wit.errors import WitError
from wit.estimate import estimate
from wit.hub import snapshot
from wit.models import load_model
from wit.plan import make_plan

asked = json.loads(sys.argv[1])

def rows(**knobs):
    return list(read_rows(InstructionsRecipe(**knobs), None))

def plan(**values):
    planned = make_plan(Study.model_validate(values), Runtime())
    model = load_model(planned.base.path)
    cost = estimate(planned, Runtime())
    return [planned.base.fingerprint, model.num_parameters(), cost.instructions.num_rows]

def cost(**values):
    planned = make_plan(Study.model_validate(values), Runtime(device="cpu", threads_per_worker=1))
    cost = estimate(planned, Runtime(device="cpu", threads_per_worker=1))
    show_plan(Console(file=(page := io.StringIO()), width=200), planned, cost)
    return [cost.model_dump(mode="json"), page.getvalue()]

def attempt(name, knobs):
    try:
        return {"rows": rows, "plan": plan, "cost": cost}[name](**knobs)
    except WitError as error:
        return f"{type(error).__name__} {error.exit_code}: {error}"

print(json.dumps([attempt(name, knobs) for name, knobs in asked]))
"""


def hub_folder(cache: Path, kind: str, repo: str) -> Path:
    """A repository as the hub's client keeps it."""
    folder = cache / f"{kind}s--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    return snapshot


def hub_snapshot(cache: Path, repo: str) -> Path:
    return cache / f"models--{repo.replace('/', '--')}" / "snapshots" / REVISION


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("hub")
    write_jsonl(hub_folder(cache, "dataset", "org/rows") / "data.jsonl", ROWS)
    splits = hub_folder(cache, "dataset", "org/splits")
    for split in ("train", "test"):
        write_jsonl(splits / f"{split}.jsonl", [{"question": split, "answer": "a"}])
    (hub_folder(cache, "dataset", "org/broken") / "data.jsonl").write_text('{"a": 1}\n{"a"')
    hub_folder(cache, "dataset", "org/empty")
    base = hub_folder(cache, "model", "org/base")
    config = LlamaConfig(
        vocab_size=1088,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(base)
    save_tokenizer(embedded_tokenizer(), base)
    for repo in OUT_OF_REACH:
        shutil.copytree(base, hub_folder(cache, "model", repo), dirs_exist_ok=True)
    (hub_snapshot(cache, "org/unloaded") / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-2.safetensors"}}
    (hub_snapshot(cache, "org/in-part") / "model.safetensors.index.json").write_text(
        json.dumps(index)
    )
    return cache


@pytest.fixture(scope="module")
def study_on_the_hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("local")
    pairs = [{"prompt": f"What is {n}?", "chosen": "a", "rejected": "b"} for n in range(12)]
    return {
        "name": "hub",
        "base": {"repo": "org/base", "revision": REVISION},
        "instructions": {"path": str(write_jsonl(folder / "rows.jsonl", ROWS))},
        "preferences": {"path": str(write_jsonl(folder / "pairs.jsonl", pairs))},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "wit_cloze", "role": "select"}],
    }


@pytest.fixture(scope="module")
def answers(
    cache: Path, study_on_the_hub: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """All in one process: it takes longer to start than to answer."""
    rows = {"repo": "org/rows", "revision": REVISION, "held_out_fraction": 0}
    bases = [{"repo": repo, "revision": REVISION} for repo in OUT_OF_REACH]
    asked = [
        ("rows", {"repo": "org/rows", "revision": REVISION}),
        ("rows", {"repo": "org/splits", "revision": REVISION, "split": "test"}),
        ("rows", {"repo": "org/rows", "revision": UNKNOWN}),
        ("rows", {"repo": "org/nothing", "revision": REVISION}),
        ("rows", {"repo": "not a name", "revision": REVISION}),
        ("rows", {"repo": "org/rows", "revision": REVISION, "split": "nope"}),
        ("rows", {"repo": "org/rows", "revision": REVISION, "subset": "nope"}),
        ("rows", {"repo": "org/broken", "revision": REVISION}),
        ("rows", {"repo": "org/empty", "revision": REVISION}),
        ("plan", {**study_on_the_hub, "instructions": rows}),
        *[("cost", {**study_on_the_hub, "base": base}) for base in bases],
    ]
    return run(asked, cache, tmp_path_factory.mktemp("home"), {"HF_HUB_OFFLINE": "1"})


def run(asked: list[Any], cache: Path, home: Path, variables: dict[str, str]) -> list[Any]:
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(home),
        "HF_DATASETS_CACHE": str(home / "datasets"),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rows_of_a_pinned_data_set_are_read(answers: list[Any]) -> None:
    assert answers[0] == ROWS


def test_a_split_of_a_data_set_is_read(answers: list[Any]) -> None:
    assert answers[1] == [{"question": "test", "answer": "a"}]


def test_a_revision_or_a_repository_that_cannot_be_had_is_named_with_the_remedy(
    answers: list[Any],
) -> None:
    for answer, name in ((answers[2], "org/rows@ffffffff"), (answers[3], "org/nothing@01234567")):
        assert answer.startswith(f"InputError 2: dataset {name} cannot be had: ")
        assert answer.endswith("or download it and give its folder as 'path'.")
    assert answers[4].startswith("InputError 2: dataset not a name@01234567 cannot be had: ")


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (5, "org/rows@01234567: subset None, split 'nope' cannot be loaded: "),
        (6, "org/rows@01234567: subset 'nope', split 'train' cannot be loaded: "),
        (7, "org/broken@01234567: subset None, split 'train' cannot be loaded: "),
        (8, "org/empty@01234567: subset None, split 'train' cannot be loaded: "),
    ],
)
def test_a_data_set_that_cannot_be_loaded_is_named(
    answers: list[Any], number: int, what: str
) -> None:
    assert answers[number].startswith(f"DataError 2: {what}")


def test_a_study_can_stand_on_a_pinned_model_and_data_set(answers: list[Any]) -> None:
    fingerprint, num_parameters, num_rows = answers[9]
    assert len(fingerprint) == 12
    assert num_parameters > 1088 * 16
    assert num_rows == len(ROWS)


# --- what a base on the hub will cost, before it is downloaded ------------------------------------


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with one model at its revision, and the names of the files whose bytes it gave."""
    given: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = self.path.partition("?")[0]
            if url.startswith("/api/models/org/base"):
                self.answer(json.dumps(self.listing("tree" in url)).encode(), "")
                return
            name = url.rpartition("/")[2]
            if f"/org/base/resolve/{REVISION}/" not in url or not (folder / name).is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = (folder / name).read_bytes()
            if self.command == "GET":
                given.append(name + (" in part" if "Range" in self.headers else ""))
            self.answer(content, name)

        do_HEAD = do_GET

        def listing(self, is_tree: bool) -> Any:
            files = sorted(file for file in folder.iterdir() if file.is_file())
            if is_tree:
                return [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
                    for f in files
                ]
            siblings = [{"rfilename": file.name} for file in files]
            return {"id": "org/base", "sha": REVISION, "siblings": siblings}

        def answer(self, content: bytes, name: str) -> None:
            asked = self.headers.get("Range")
            self.send_response(206 if asked else 200)
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                content = content[int(first) : int(last) + 1]
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{name}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", given
    finally:
        server.shutdown()
        server.server_close()


def test_the_cost_of_a_base_is_known_without_downloading_its_weights(
    cache: Path, tmp_path: Path, study_on_the_hub: dict[str, Any]
) -> None:
    files = hub_snapshot(cache, "org/base")
    downloaded, local = tmp_path / "hub", {**study_on_the_hub, "base": {"path": str(files)}}
    with serving(files) as (url, given):
        variables = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        asked = [("cost", study_on_the_hub), ("cost", local)]
        from_hub, of_files = run(asked, downloaded, tmp_path, variables)
    assert "tokenizer.json" in given
    assert "model.safetensors in part" in given
    assert "model.safetensors" not in given
    assert from_hub[0] == of_files[0]
    assert from_hub[0]["peak_memory_bytes"] > 0


@pytest.mark.parametrize("number", [10, 11], ids=OUT_OF_REACH)
def test_the_cost_of_a_base_that_is_out_of_reach_is_unknown(
    answers: list[Any], number: int
) -> None:
    cost, page = answers[number]
    assert cost["sft_tokens"] > 0
    assert [cost[k] for k in ("seconds", "disk_bytes", "peak_memory_bytes")] == [None] * 3
    assert "unknown: the base is not downloaded yet" in page

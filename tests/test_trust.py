"""No file is trusted: none is run when it is read, and no name leads out of the artifact root."""

import ast
import io
import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.distributed as dist
from commands import wit
from hypothesis import given
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from samples import ROOT
from tiny import make_tiny_base
from yaml.constructor import SafeConstructor

from wit.config import Cell, Runtime
from wit.data.prepare import make_tokenizer
from wit.errors import BaseModelError, StageError
from wit.loading import load_study
from wit.models import load_model
from wit.outcome import study_folder
from wit.plan import make_plan
from wit.recipes import Name, TokenizerRecipe
from wit.stages import make_artifact
from wit.tokenizers import load_tokenizer
from wit.training.checkpoints import mark_complete
from wit.training.shards import SHARDS, load_shards, save_shards
from wit.weights import TokenWeights

# --- what the code says -------------------------------------------------------------------------

SOURCES = [file for name in ("wit", "tasks", "flows") for file in (ROOT / name).rglob("*.py")]
# Of what they unpickle the one knows the writer, its own parent; the other takes descriptions only.
UNPICKLING = {"wit/data/processes.py", "wit/training/shard_reader.py"}
NEVER_IMPORTED = {"dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield str(file.relative_to(ROOT)), node


def test_no_call_asks_to_run_what_it_reads() -> None:
    seen = 0
    for file, call in calls():
        said, keywords = ast.unparse(call.func), {k.arg: k.value for k in call.keywords}
        where = f"{file}:{call.lineno}: {said}"
        for name, safe in (
            ("trust_remote_code", False),
            ("weights_only", True),
            ("use_safetensors", True),
            ("allow_pickle", False),
            ("shell", False),
        ):
            if name in keywords:
                assert ast.literal_eval(keywords[name]) is safe, where
        if said == "torch.load":
            assert "weights_only" in keywords, where
        if said.endswith("from_pretrained") and file != "wit/builtin/pretrain.py":  # its own model
            assert "trust_remote_code" in keywords, where
            seen += 1
        if said == "yaml.load":
            loader = getattr(
                import_module(file[:-3].replace("/", ".")), ast.unparse(keywords["Loader"])
            )
            assert issubclass(loader, SafeConstructor), where
        assert said not in ("eval", "exec", "compile", "yaml.unsafe_load", "yaml.full_load"), where
        assert said != "__import__", where
    assert seen == 2


def test_nothing_is_unpickled_but_in_two_places() -> None:
    importing, unpickling = set(), set()
    for file in SOURCES:
        name = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert name == "wit/lifeline.py" or not NEVER_IMPORTED & set(modules), name
            if "pickle" in modules:
                importing.add(name)
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pickle.load"):
                unpickling.add(name)
    assert importing == UNPICKLING
    assert unpickling == {"wit/data/processes.py"}


# --- files of others ----------------------------------------------------------------------------


class Bomb:
    """What leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """It is not there, as long as nothing was run."""
    mark = tmp_path / "was run"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb does not work"
    mark.unlink()
    yield mark
    assert not mark.exists()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tiny_base(tmp_path / "base")


def test_weights_in_a_pickle_are_not_loaded(base: Path, mark: Path) -> None:
    (base / "model.safetensors").unlink()
    torch.save({"model": Bomb(mark)}, base / "pytorch_model.bin")
    with pytest.raises(BaseModelError):
        load_model(base)


def test_code_that_comes_with_a_base_is_not_run_even_if_somebody_would_say_yes(
    base: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "mine.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    config = json.loads((base / "config.json").read_text())
    mine = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    config |= {"model_type": "mine", "architectures": ["Mine"], "auto_map": mine}
    (base / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    own = {"auto_map": {"AutoTokenizer": ["mine.Slow", "mine.Fast"]}, "tokenizer_class": "Mine"}
    (base / "tokenizer_config.json").write_text(json.dumps(tokenizer | own))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    with pytest.raises(BaseModelError):
        load_model(base)
    with pytest.raises(BaseModelError):
        load_tokenizer(base)


def test_the_tokenizer_is_what_it_was_without_such_settings(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    make_tokenizer(TokenizerRecipe(), base, out)
    assert "trust" not in (out / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_is_data(base: Path, mark: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"name: x\nbase: {{path: {base}}}\npreferences: {{path: builtin, max_rows: 8}}\n"
        "instructions: {path: builtin, max_rows: 16}\nweights: [instruction-tuning]\n"
        "sft: {num_epochs: 2, examples_per_step: 8}\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    runtime = Runtime(
        artifact_root=tmp_path / "root",
        device="cpu",
        tracking_uri="http://127.0.0.1:9",
        checkpoint_seconds=1e-6,
    )
    plan = make_plan(load_study(file), runtime)
    sft = plan.cells[0].sft
    for artifact in (plan.tokenizer, plan.instructions):
        make_artifact(artifact, runtime)
    whole = a_checkpoint_of(sft, runtime)
    assert load_file(whole / "model.safetensors")
    torch.save({"state": Bomb(mark)}, whole / name)
    mark_complete(whole)
    with pytest.raises(StageError, match="eights"):
        make_artifact(sft, runtime)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """The only one of as many ranks."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def training(seed: int) -> tuple[Any, ...]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return model, optimizer, schedule


class Schedule:
    """What is no tensor in a checkpoint."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def test_a_sharded_checkpoint_is_data(alone: None, mark: Path, tmp_path: Path) -> None:
    model, optimizer, schedule = training(0)
    save_shards(tmp_path, model, optimizer, schedule)
    other, *rest = training(1)
    load_shards(tmp_path, other, *rest)
    assert torch.equal(other.weight, model.weight)
    assert rest[1].state_dict() == schedule.state_dict()
    metadata = tmp_path / SHARDS / ".metadata"
    metadata.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(Exception, match="describes no tensor"):
        load_shards(tmp_path, other, *rest)
    bomb: Any = Schedule({"_step_count": Bomb(mark)})
    save_shards(tmp_path / "bomb", model, optimizer, bomb)
    plain: Any = Schedule({"_step_count": 0})
    with pytest.raises(Exception, match="Weights only load failed"):
        load_shards(tmp_path / "bomb", model, optimizer, plain)


def a_checkpoint_of(sft, runtime: Runtime) -> Path:
    """Of a training that somebody keeps from ending."""
    aside = sft.root / "aside"
    done = False
    from threading import Thread

    def copy() -> None:
        nonlocal done
        while not done:
            for mark in sft.scratch.glob("checkpoints/checkpoint-*/complete"):
                try:
                    shutil.copytree(mark.parent, aside / mark.parent.name)
                    done = (aside / mark.parent.name / "complete").exists()
                except OSError:
                    shutil.rmtree(aside, ignore_errors=True)
                if done:
                    break

    thread = Thread(target=copy)
    thread.start()
    make_artifact(sft, runtime)
    done = True
    thread.join()
    [checkpoint] = aside.iterdir()
    shutil.rmtree(sft.path)
    place = sft.scratch / "checkpoints" / checkpoint.name
    place.parent.mkdir(parents=True)
    return Path(shutil.move(checkpoint, place))


# --- names --------------------------------------------------------------------------------------

NAMES = st.text(max_size=12) | st.sampled_from(
    ["..", ".", "/etc", "a/../../b", "a/b", "~", "$HOME", "-rf", "a\0b", "a\n", "..a", "a\\b", "C:"]
)
names = TypeAdapter(Name)


@given(name=NAMES | st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", fullmatch=True))
def test_a_name_that_is_allowed_stays_in_its_folder(name: str) -> None:
    root = Path("/somewhere/root")
    try:
        names.validate_python(name)
    except ValidationError:
        return
    folder = study_folder(Runtime(artifact_root=root), name)
    assert folder.resolve().parent == root / "studies"
    cell = Cell(weights=TokenWeights(prompt=0.25, response=1e-6), seed=10**9)
    derived = f"{name}-{cell}"[-80:].lstrip("-._")  # as flows/cell.py calls a study of one cell
    assert names.validate_python(derived) == derived


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", "a\n"])
def test_names_of_a_study_file_that_lead_elsewhere_are_refused(
    name: str, base: Path, tmp_path: Path
) -> None:
    study = {
        "name": "x",
        "base": {"path": str(base)},
        "instructions": {"path": "builtin"},
        "preferences": {"path": "builtin"},
        "weights": ["instruction-tuning"],
        "benchmarks": [{"name": "wit_cloze", "role": "select"}],
    }
    for wrong in (
        {"name": name},
        {"benchmarks": [{"name": name, "role": "select"}]},
        {"instructions": {"sources": {name: {"path": "builtin"}}}},
        {
            "weights": [
                {"prompt": 0, "response": 1, "sources": {name: {"prompt": 1, "response": 1}}}
            ]
        },
    ):
        file = tmp_path / "study.yaml"
        file.write_text(json.dumps(study | wrong))
        root = tmp_path / "root"
        ended = wit("run", file, "--set-runtime", f"artifact_root={root}")
        assert ended.returncode == 2, wrong
        assert "Traceback" not in ended.stderr
        assert not root.exists()


@pytest.mark.parametrize("command", [["report"], ["best", "--register", "x"], ["compare"]])
def test_a_study_asked_for_by_a_name_that_leads_elsewhere_is_not_found(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    place = ["--set-runtime", f"artifact_root={root}"]
    ended = wit(command[0], "../../outside", *command[1:], *place)
    assert ended.returncode == 2
    assert not list((tmp_path / "outside").iterdir())

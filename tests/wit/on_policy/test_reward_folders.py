"""What is no reward model is refused: told from its files before a study, or as it is loaded."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reward_models import random_reward_model
from safetensors.torch import load_file, save_file

from wit.errors import ConfigError
from wit.on_policy.reward import RewardModel, check_reward_model


def change(file: Path, **changes: Any) -> None:
    """Writes other values into a file of JSON; None takes one out."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def config_with(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **changes)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter; merge"),
    "code": (config_with(auto_map={"AutoModel": "mine.Model"}), "comes with code of its own"),
    "causal": (
        config_with(architectures=["LlamaForCausalLM"]),
        "no sequence classifier .*CausalLM",
    ),
    "nothing said": (config_with(architectures=None), "is no sequence classifier"),
    "outputs": (config_with(id2label={"0": "bad", "1": "good"}), "gives 2 outputs, not one"),
    "outputs by default": (config_with(id2label=None, label2id=None), "gives 2 outputs, not one"),
    "outputs by number": (
        config_with(id2label=None, label2id=None, num_labels=3),
        "gives 3 outputs",
    ),
    "no config": (without("config.json"), "no Hugging Face model folder .*no config.json"),
    "broken": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
    "list": (lambda f: (f / "config.json").write_text("[]"), "config.json holds no mapping"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer.json"),
    "no template": (without("chat_template.jinja"), "has no chat template"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_reward_model_is_refused_before_anything_is_loaded(
    fault: str, tmp_path: Path
) -> None:
    folder = random_reward_model(tmp_path)
    (folder / "model.safetensors").unlink()  # may still be on the hub
    check_reward_model(folder)
    spoil, said = FAULTS[fault]
    spoil(folder)
    for refused in (check_reward_model, lambda one: RewardModel(one, batch_size=1)):
        with pytest.raises(ConfigError, match=f"{folder}: .*{said}.*sequence classifier of one"):
            refused(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        check_reward_model(tmp_path / "none")


def test_a_template_may_stand_in_the_tokenizers_configuration(tmp_path: Path) -> None:
    folder = random_reward_model(tmp_path)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    config = folder / "tokenizer_config.json"
    named = [{"name": "other", "template": "x"}]
    change(config, chat_template=named)
    with pytest.raises(ConfigError, match="has no chat template"):
        check_reward_model(folder)
    for given in (template, [*named, {"name": "default", "template": template}]):
        change(config, chat_template=given)
        check_reward_model(folder)
        RewardModel(folder, batch_size=1)


def test_a_model_without_the_weights_of_the_score_is_refused(tmp_path: Path) -> None:
    file = random_reward_model(tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["score.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 weights are missing, such as score\.weight"):
        RewardModel(tmp_path, batch_size=1)


class Bomb:
    """What leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_weights_in_a_pickle_are_not_loaded(tmp_path: Path) -> None:
    folder, mark = random_reward_model(tmp_path), tmp_path / "was run"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ConfigError, match="no sequence classifier can be loaded"):
        RewardModel(folder, batch_size=1)
    assert not mark.exists()


def test_the_folder_is_looked_at_without_any_heavy_import(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, pathlib; from wit.on_policy.reward_files import check_reward_model as check; "
        f"check(pathlib.Path({str(random_reward_model(tmp_path))!r})); "
        "print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

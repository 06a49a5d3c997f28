"""Whether a folder holds a reward model: told from its small files, before anything is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wit.errors import ConfigError, first_line

CLASSIFIER = "ForSequenceClassification"  # how the library ends the names of such classes
DEFAULT_OUTPUTS = 2  # of a classifier whose configuration does not say how many it has


def check_reward_model(folder: Path) -> None:
    """Refuses a folder that is no reward model; its weights need not be there yet.

    Args:
        folder: With a model's configuration and its tokenizer.

    Raises:
        ConfigError: It is no sequence classifier of one output, comes with code or as an adapter,
            or has no tokenizer or no chat template of its own.
    """
    if not folder.is_dir():
        raise not_a_reward_model(folder, "there is no such folder")
    if (folder / "adapter_config.json").exists():
        raise not_a_reward_model(folder, "holds an adapter; merge it into its base and save both")
    config = _read_mapping(folder / "config.json", folder)
    if config.get("auto_map"):
        raise not_a_reward_model(
            folder, "comes with code of its own ('auto_map' in config.json), which is not run"
        )
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not any(
        str(name).endswith(CLASSIFIER) for name in architectures
    ):
        said = f"is no sequence classifier ('architectures' in config.json: {architectures!r:.60})"
        raise not_a_reward_model(folder, said)
    if (num_outputs := _num_outputs(config)) != 1:
        raise not_a_reward_model(folder, f"gives {num_outputs} outputs, not one score")
    if not (folder / "tokenizer.json").is_file():
        raise not_a_reward_model(folder, "has no tokenizer.json")
    if not _has_template(folder):
        raise not_a_reward_model(
            folder, "has no chat template (chat_template.jinja, or in tokenizer_config.json)"
        )


def not_a_reward_model(folder: Path, said: str) -> ConfigError:
    """What to raise of a folder that cannot be used, and what could.

    Args:
        folder: That was named.
        said: What is wrong with it.
    """
    return ConfigError(
        f"{folder}: {said}. A reward model is a sequence classifier of one output, in .safetensors "
        "files, with its tokenizer and the chat template that it was trained with: name such a one"
    )


def _num_outputs(config: Mapping[str, Any]) -> Any:
    """As the library reads it."""
    if isinstance(labels := config.get("id2label"), Mapping):
        return len(labels)
    given = config.get("num_labels")
    return DEFAULT_OUTPUTS if given is None else given


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    if not file.exists():
        return False
    template = _read_mapping(file, folder).get("chat_template")
    if isinstance(template, list):  # several by name, of which one is used unless another is named
        return any(isinstance(one, Mapping) and one.get("name") == "default" for one in template)
    return bool(template)


def _read_mapping(file: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        said = f"is no Hugging Face model folder (it has no {file.name})"
        raise not_a_reward_model(folder, said) from None
    except (OSError, ValueError, RecursionError) as error:
        said = f"{file.name} cannot be read: {first_line(error)}"
        raise not_a_reward_model(folder, said) from None
    if not isinstance(content, dict):
        raise not_a_reward_model(folder, f"{file.name} holds no mapping")
    return content

"""How large a model is, from the headers of its files; nothing is loaded."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from wit.artifacts import Source
from wit.base_files import tokenizer_folder
from wit.errors import BaseModelError, first_line
from wit.hub import count_weights


class ModelSize(NamedTuple):
    """How much there is to train."""

    num_weights: int
    vocabulary: int
    hidden: int
    layers: int


def model_size(base: Source) -> ModelSize | None:
    """From headers alone; nothing if they are out of reach.

    Raises:
        BaseModelError: A file is damaged; names it.
    """
    folder = tokenizer_folder(base)  # has the configuration too
    has_files = any(folder.glob("*.safetensors"))
    # Offline, what an interrupted download left looks like a model with some files missing.
    if base.revision is None or (has_files and _is_whole(folder)):
        num_weights = weights_in(folder)
    else:
        num_weights = count_weights(base.location, base.revision)
    config = _read_json(folder / "config.json")
    config = config.get("text_config", config)
    try:
        keys = ("vocab_size", "hidden_size", "num_hidden_layers")
        shape = [int(config.get(key, 1)) for key in keys]
    except (AttributeError, TypeError, ValueError):
        raise _damaged(folder / "config.json", "its sizes are no numbers") from None
    return None if num_weights is None else ModelSize(num_weights, *shape)


def weights_in(folder: Path) -> int:
    """Number of weights in the safetensors files of a folder.

    Raises:
        BaseModelError: A file is damaged; names it.
    """
    return sum(_count_weights(file) for file in folder.glob("*.safetensors"))


def _is_whole(folder: Path) -> bool:
    """Whether every file is there that an index names."""
    indices = [_read_json(file) for file in folder.glob("*.safetensors.index.json")]
    names = {name for index in indices for name in index.get("weight_map", {}).values()}
    return all((folder / name).is_file() for name in names)


def _count_weights(file: Path) -> int:
    """Number of weights in a safetensors file, from its header: a length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(min(length, file.stat().st_size))
    try:
        tensors = [t for name, t in json.loads(header).items() if name != "__metadata__"]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        is_cut = 8 + length + end > file.stat().st_size
        num_weights = sum(math.prod(tensor["shape"]) for tensor in tensors)
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise _damaged(file, f"its header cannot be read: {first_line(error)}") from None
    if is_cut:
        raise _damaged(file, "it ends before its last weight")
    return num_weights


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, f"it cannot be read: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise _damaged(file, "it holds no mapping")
    return content


def _damaged(file: Path, why: str) -> BaseModelError:
    return BaseModelError(
        f"{file}: is damaged: {why}. Download or copy the base again, or set 'base' to another"
    )

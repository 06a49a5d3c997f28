"""Which files of a base are its model, and which its tokenizer."""

from pathlib import Path

from wit.artifacts import Source
from wit.errors import BaseModelError
from wit.hub import snapshot

MODEL_FILES = (
    "config.json",
    "generation_config.json",  # what ends a response of the base
    "*.safetensors",
    "*.safetensors.index.json",
)
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
)


def base_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of the model in a folder, and those of its tokenizer.

    Raises:
        BaseModelError: One of the two is not there; says what is missing.
    """
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{folder}: is no Hugging Face model folder (it has no config.json)")
    model_files, tokenizer_files = (
        [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
        for patterns in (MODEL_FILES, TOKENIZER_FILES)
    )
    if not any(file.suffix == ".safetensors" for file in model_files):
        raise BaseModelError(f"{folder}: holds no .safetensors weights")
    if not any(file.name.startswith(("tokenizer.", "vocab")) for file in tokenizer_files):
        raise BaseModelError(f"{folder}: holds no tokenizer (tokenizer.json)")
    return model_files, tokenizer_files


def tokenizer_folder(files: Source) -> Path:
    """Folder of a base with its configuration and tokenizer; weights on the hub stay there.

    Raises:
        InputError: The hub repository cannot be had.
    """
    if files.revision is None:
        return files.path
    only = ("config.json", "*.safetensors.index.json", *TOKENIZER_FILES)
    return snapshot(files.location, files.revision, kind="model", only=only)

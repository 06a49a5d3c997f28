"""Pinned snapshots from the Hugging Face hub, or from its local cache when offline."""

from pathlib import Path
from typing import Literal

from wit.errors import HubDownError, InputError


def snapshot(
    repo: str,
    revision: str,
    *,
    kind: Literal["model", "dataset"],
    only: tuple[str, ...] | None = None,
) -> Path:
    """Local folder of a hub repository at a commit; downloaded unless it is in the cache.

    Args:
        repo: Its name, such as ``org/model``.
        revision: The commit.
        kind: What it is a repository of.
        only: Patterns of the files that are needed; None for all.

    Raises:
        HubDownError: The hub does not answer.
        InputError: The repository cannot be had, with the hub's reason and the remedy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # Weights in other formats would double or treble a download of gigabytes.
    skip = ["*.bin", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack"] if kind == "model" else None
    try:
        return Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(only) if only else None,
                ignore_patterns=skip,
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise (HubDownError if _is_away(error) else InputError)(
            f"{kind} {repo}@{revision[:8]} cannot be had: {reason} Check the name, the revision, "
            "the network and HF_TOKEN, or download it and give its folder as 'path'."
        ) from None


def _is_away(error: Exception) -> bool:
    """Whether the hub may answer later; one that is switched off, or says no, will not."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    cause = error.__cause__ or error  # what is not in the cache is told by another error
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in (408, 429) or cause.response.status_code >= 500
    is_asked = not isinstance(cause, OfflineModeIsEnabled)
    return is_asked and isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError)


def count_weights(repo: str, revision: str) -> int | None:
    """Number of weights of a model, from the headers of its files on the hub; None if offline."""
    from huggingface_hub import get_safetensors_metadata

    try:
        metadata = get_safetensors_metadata(repo, revision=revision)
    except Exception:  # of whatever HTTP library is below; a size is not worth an error
        return None
    return sum(metadata.parameter_count.values())

"""By which code an artifact was made."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED_PACKAGES = ("torch", "transformers", "trl", "datasets", "tokenizers", "lm_eval", "wit")


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@cache
def commit() -> str | None:
    """Commit of wit's own checkout, ``+`` for uncommitted changes; nothing when installed."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

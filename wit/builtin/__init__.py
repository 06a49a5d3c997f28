"""The embedded default: a small but able base model, its data, and the recipe that makes them.

The demo needs a model that trains in seconds on a laptop without a network, and that still shows a
true effect of the loss weights. No published model does both, so the project ships one of its own:
1.3 M parameters, pretrained on generated statements (``world``), to be tuned on plain requests for
the same skills (``instructions``, ``preferences``).
"""

from pathlib import Path

BASE_DIR: Path = Path(__file__).parent / "base"
"""Weights, tokenizer and training record of the base model, in the Hugging Face layout."""

DATA_DIR: Path = Path(__file__).parent / "data"
"""``instructions.jsonl`` and ``preferences.jsonl``."""

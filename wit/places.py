"""Where the keys of a study were set, and what they are called there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Places:
    """Where the keys of a study were set; no part of what it is, so any two are equal."""

    by_key: Mapping[Key, str] = field(default_factory=dict, compare=False)  # as they are written
    # Of what a short form in the file stands for, such as a list of epochs: where that stands.
    written: Mapping[Key, Key] = field(default_factory=dict, compare=False)

    def as_written(self, key: Key) -> Key:
        """The key that sets it: its own, unless a short form stands for it or for its holder."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.written:
                return (*self.written[key[:end]], *key[end:])
        return key

    def of(self, key: Key) -> str | None:
        """``file:line`` of a key or of its nearest holder, or the override that set it."""
        key = self.as_written(key)
        holders = (key[:end] for end in range(len(key), 0, -1))
        return next((self.by_key[k] for k in holders if k in self.by_key), None)

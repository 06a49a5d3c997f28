"""What ``wit doctor`` finds, one thing at a time."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    is_well: bool
    found: str
    remedy: str = ""  # a command that mends it, where it is not well

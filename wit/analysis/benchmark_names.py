"""What names of benchmarks tell: which way they point, and which two are one name misspelt."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

LOWER = ("POSIX", "sensitivity")  # less is better of these, and of every nll_<role>
# Words of a name, and parts of one, that speak of what one wants little of.
LOWER_WORDS = {"bpb", "bpc", "brier", "cer", "ece", "err", "error", "errors", "loss", "losses"}
LOWER_WORDS |= {"mae", "mse", "nll", "ppl", "rmse", "ter", "wer"}
LOWER_PARTS = ("perplexity", "toxicity", "hallucination", "misclassification")


def is_known_as_lower(name: str) -> bool:
    """Whether less is better of the benchmark, as is known without asking."""
    return name in LOWER or name.startswith("nll_")


def doubts(table: pd.DataFrame) -> list[str]:
    """A sentence on each benchmark that is taken the other way round than its name says.

    Args:
        table: As ``read_scores`` gives it.
    """
    taken = table.loc[table["higher_is_better"].eq(True), "benchmark"]
    return [
        f"{name}: more is taken to be better, though its name speaks of what one wants little "
        f"of; if less is better, say --lower-is-better {name}"
        for name in sorted(set(taken))
        if _sounds_lower(name)
    ]


def near_duplicates(names: Iterable[str]) -> Sequence[tuple[str, str]]:
    """Pairs of names that differ only in case, blanks, underscores, hyphens or dots.

    Between two digits these tell numbers apart: v1.0 is not v10.
    """
    first: dict[str, str] = {}
    found = []
    for name in sorted(set(names)):
        numbers = re.sub(r"(?<=\d)[\s_.-]+(?=\d)", ".", name.casefold())
        bare = re.sub(r"(?<!\d)[\s_.-]+|[\s_.-]+(?!\d)", "", numbers)
        if bare in first:
            found.append((first[bare], name))
        first.setdefault(bare, name)
    return found


def _sounds_lower(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return not LOWER_WORDS.isdisjoint(words) or any(part in name.lower() for part in LOWER_PARTS)

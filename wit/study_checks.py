"""Whether the keys of a study go together; each alone is right."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wit.score_names import is_diagnostic

if TYPE_CHECKING:
    from wit.config import Study


def check_differ(identities: Mapping[str, str], what: str) -> None:
    """Passes if no two names stand for the same thing.

    Args:
        identities: By name.
        what: They would be.

    Raises:
        ValueError: Two do.
    """
    names: dict[str, str] = {}
    for name, identity in identities.items():
        first = names.setdefault(identity, name)
        if first != name:
            raise ValueError(
                f"{first!r} and {name!r} have the same knobs, so they would be one {what}; leave "
                "one of them out"
            )


def check_adapters(study: "Study") -> None:
    """Passes if every alignment that goes on with an adapter finds one.

    Raises:
        ValueError: There is none.
    """
    for name, knobs in study.aligned_by.items():
        if not knobs.continues_adapter:
            continue
        for tuning, of_sft in study.tuned_by.items():
            if of_sft.adapter is None:
                key = ".".join(study.key_of(name, "adapter"))
                its = ".".join(study.key_of_sft(tuning, "adapter"))
                raise ValueError(
                    f"'{key}: continue' goes on with the adapter of SFT, and {its!r} is "
                    f"unset; set it, or give '{key}' an adapter of its own"
                )


def check_names(study: "Study") -> None:
    """Passes if no name stands for a tuning and for an alignment.

    Raises:
        ValueError: One does.
    """
    for name in study.tunings:
        if name in study.aligned_by:
            raise ValueError(f"{name!r} is a tuning and an alignment; name one of them otherwise")


def check_judge(study: "Study") -> None:
    """Passes if there is a judge where something is judged, and all that is scored has a name.

    Raises:
        ValueError: There is not.
    """
    for name, knobs in study.aligned_by.items():
        if knobs.on_policy and knobs.on_policy.scorer == "judge" and study.judge is None:
            key = ".".join((*study.key_of(name, "on_policy"), "scorer"))
            raise ValueError(f"'{key}: judge' needs 'judge', such as judge: {{model: gpt-4o}}")
    if study.judged and study.judge is None:
        raise ValueError("'judged' needs 'judge', such as judge: {model: gpt-4o-mini}")
    names = {benchmark.name for benchmark in study.benchmarks}
    for name in (*names, *(judged.name for judged in study.judged)):
        if is_diagnostic(name):
            raise ValueError(f"{name!r} is what wit calls a figure of its own; choose another")
    for judged in study.judged:
        if judged.name in names:
            raise ValueError(f"judged {judged.name!r} is the name of a benchmark; give another")
        if judged.kind == "pairs" and judged.references is None:
            raise ValueError(
                f"judged {judged.name!r}: pairs need 'references', a file of the responses "
                "that the models' own are compared with"
            )

"""Whether this machine can do what a study and a runtime ask for; known before anything is made."""

import os
from importlib.util import find_spec

from wit.adapter_recipes import QUANTISED
from wit.artifact_store import check_store
from wit.compatibility import FLASH, check_together
from wit.config import Runtime, Study
from wit.data.pairing import will_be_unpaired
from wit.errors import ConfigError
from wit.evaluation_recipes import JudgeEvaluation
from wit.judging.settings import NO_JUDGE, check_judge
from wit.on_policy.recipes import PairsRecipe
from wit.plan import Plan
from wit.study_sources import row_files
from wit.worker_environment import visible_gpus


def asks_the_judge(plan: Plan) -> bool:
    """Whether something is still to be judged."""
    return any(
        isinstance(artifact.recipe, JudgeEvaluation | PairsRecipe)
        and artifact.recipe.judge is not None
        for artifact in plan.to_make
    )


def check_the_judge(plan: Plan, runtime: Runtime) -> None:
    """Whether it is said where the judge is, and its key is there, if it is still to be asked.

    Nothing is sent.

    Raises:
        InputError: It is not; says what to set.
    """
    if not asks_the_judge(plan):
        return
    if runtime.judge is None:
        raise ConfigError(NO_JUDGE)
    check_judge(runtime.judge, os.environ)


def check_pairs(plan: Plan) -> None:
    """Whether every alignment can learn from what the preferences are, as their columns say.

    Raises:
        InputError: They are single responses, and one wants pairs; or they are neither.
    """
    study, preferences = plan.study, plan.preferences
    of_pairs = {name: wanted for name in study.aligned_by if (wanted := _of_pairs(study, name))}
    if not of_pairs or plan.is_made(preferences):
        return
    if will_be_unpaired(study.preferences, row_files(preferences)):
        name, (loc, said, other) = next(iter(of_pairs.items()))
        place, key = study.places.of(loc) or study.places.of(("preferences",)), ".".join(loc)
        remedy = f"set {key}: {other}, or give pairs"
        if len(study.aligned_by) > 1:  # there may be such a one already
            remedy += f", or leave alignment {name!r} out"
        raise ConfigError(
            f"{f'{place}: ' if place else ''}{key} = {said}, and the preferences are single "
            f"responses, good or bad; {remedy}"
        )


def _of_pairs(study: Study, alignment: str) -> tuple[tuple[str, ...], str, str] | None:
    """Which key of an alignment wants pairs, what to say of that, and what wants none."""
    knobs = study.aligned_by[alignment]
    if knobs.on_policy is None:
        key, said = study.key_of(alignment, "objective"), f"{knobs.objective} learns from pairs"
        return None if knobs.is_for_unpaired else (key, said, "kto")
    key = (*study.key_of(alignment, "on_policy"), "scorer")
    said = "exact_match asks what the chosen response says"
    return (key, said, "reward_model") if knobs.on_policy.scorer == "exact_match" else None


def check_machine(plan: Plan, runtime: Runtime) -> None:
    """Refuses what would fail hours later, in the first training.

    What no machine can do was refused when the study was planned. What only trainings need is asked
    for only while there are some to make: a laptop can evaluate and report what a cluster trained.

    Raises:
        InputError: A GPU or a package is missing, or the artifact store cannot be written; says
            which knob asks for it, and the remedy.
    """
    if not plan.to_make:
        return
    check_store(runtime)
    check_the_judge(plan, runtime)
    check_pairs(plan)
    study, trains = plan.study, plan.has_to_train
    for tuning, knobs in study.tuned_by.items():
        method = knobs.adapter.method if knobs.adapter else None
        if trains and method in QUANTISED and find_spec("bitsandbytes") is None:
            raise ConfigError(
                f"{'.'.join(study.key_of_sft(tuning, 'adapter'))} = {method}: the package "
                "bitsandbytes is not installed. Install it (pip install bitsandbytes), or set lora"
            )
    wants_flash = runtime.attention == FLASH
    trainings = (*study.tuned_by.values(), *study.aligned_by.values())
    wants_half = any(knobs.precision == "float16" for knobs in trainings)
    wants_gpus = trains and (runtime.num_processes > 1 or wants_flash or wants_half)
    if runtime.device == "cpu" or not (runtime.device == "cuda" or wants_gpus):
        return  # nothing can be missing
    from wit.models import choose_device

    device = choose_device(runtime.device).type
    if not trains:
        return
    check_together(study, runtime.model_copy(update={"device": device}))
    # transformers would take a kernel of the hub as well, which is not there where there is no hub.
    if wants_flash and find_spec("flash_attn") is None:
        raise ConfigError(
            f"runtime attention = {FLASH}: the package flash_attn is not installed. Install it, or "
            "--set-runtime attention=auto"
        )
    num_gpus = len(visible_gpus())
    if device == "cuda" and runtime.num_processes > num_gpus:
        raise ConfigError(
            f"runtime num_processes = {runtime.num_processes}: each SFT process needs a GPU of its "
            f"own, and there are {num_gpus}; --set-runtime num_processes={max(1, num_gpus)}"
        )

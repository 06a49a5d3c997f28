"""Whether a study and a runtime can be had together; each alone is right."""

from wit.adapter_recipes import AdapterKnobs
from wit.config import Runtime, Study
from wit.errors import ConfigError
from wit.recipes import SFTKnobs

AT_ONCE = ("lora", "mora")  # methods of which several adapters go through one base
FLASH = "flash_attention_2"  # as an attention: what asks for a GPU and a package


def check_together(study: Study, runtime: Runtime) -> None:
    """Refuses what a study and a runtime ask for together, if no machine can do it.

    Raises:
        ConfigError: Names the knobs, where the study sets its own, and the remedy.
    """
    precisions: dict[tuple[str, ...], str] = {}
    for tuning, knobs in study.tuned_by.items():
        precisions[study.key_of_sft(tuning, "precision")] = knobs.precision
        _check_sft(study, tuning, runtime)
    for name, knobs in study.aligned_by.items():
        precisions[study.key_of(name, "precision")] = knobs.precision
    _check_at_once(study, runtime)
    if runtime.device != "cpu":
        return
    if runtime.attention == FLASH:
        remedy = "--set-runtime attention=auto, or device=cuda where there is one"
        why = f"needs a GPU, and this runs on the CPU; {remedy}"
        raise ConfigError(f"runtime attention = {FLASH}: {why}")
    for key, precision in precisions.items():
        if precision == "float16":
            remedy = "set float32 or bfloat16, or --set-runtime device=cuda where there is one"
            why = f"needs a GPU, and this runs on the CPU; {remedy}"
            raise _refused(study, key, precision, why)


def _check_sft(study: Study, tuning: str | None, runtime: Runtime) -> None:
    knobs = study.tuned_by[tuning]
    if runtime.attention == FLASH and knobs.precision == "float32":
        key = study.key_of_sft(tuning, "precision")
        remedy = f"set {'.'.join(key)} to one of these, or --set-runtime attention=auto"
        raise _refused(study, key, "float32", f"{FLASH} needs bfloat16 or float16; {remedy}")
    adapter = knobs.adapter
    if adapter is not None and not adapter.can_be_sharded and runtime.sharding == "fsdp":
        said = f"{adapter.method}, {adapter.init}" if adapter.takes_from_weights else adapter.method
        said += " with dora" if adapter.dora else ""
        key = study.key_of_sft(tuning, "adapter")
        if adapter.model_copy(update={"tokens": "none"}).can_be_sharded:
            why = "single embeddings cannot be trained where weights are sharded; set none, or "
            why += "--set-runtime sharding=none"
            raise _refused(study, (*key, "tokens"), "template", why)
        why = "its weights cannot be sharded; set lora, or --set-runtime sharding=none"
        raise _refused(study, key, said, why)


def _refused(study: Study, key: tuple[str, ...], value: str, why: str) -> ConfigError:
    place = study.places.of(key)
    return ConfigError(f"{f'{place}: ' if place else ''}{'.'.join(key)} = {value}: {why}")


def _check_at_once(study: Study, runtime: Runtime) -> None:
    """Refuses cells at once where there can be none: all would be trained one by one unnoticed."""
    if runtime.cells_at_once == 1:
        return
    said, remedy = f"runtime cells_at_once = {runtime.cells_at_once}", "cells_at_once=1"
    if runtime.num_processes > 1:
        why = f"they are not spread over ranks; --set-runtime {remedy} or num_processes=1"
        raise ConfigError(f"{said}: {why}")
    if runtime.execution == "deployments":
        why = f"every cell is a run of its own; --set-runtime {remedy} or execution=local"
        raise ConfigError(f"{said}: {why}")
    if study.search is not None:
        why = f"a search begins and stops them one by one; --set-runtime {remedy}"
        raise ConfigError(f"{said}: {why}")
    problems = {tuning: why_alone(knobs) for tuning, knobs in study.tuned_by.items()}
    tuning, problem = next(iter(problems.items()))
    if problem is not None and all(problems.values()):
        key = study.key_of_sft(tuning, problem[0])
        place = study.places.of(key)
        raise ConfigError(
            f"{f'{place}: ' if place else ''}{'.'.join(key)}: {problem[1]}. So there is nothing "
            f"for {said}; --set-runtime {remedy}"
        )


def why_alone(knobs: SFTKnobs) -> tuple[str, str] | None:
    """Why cells of such an SFT cannot be trained at once: a knob, and what of it."""
    if problem := _problem_with(knobs.adapter):
        return "adapter", problem
    if knobs.precision == "float16":
        why = "float16 leaves out a step of all cells where one of them overflows; set bfloat16"
        return "precision", why
    return None


def _problem_with(adapter: AdapterKnobs | None) -> str | None:
    """Why adapters cannot be trained at once on one base."""
    if adapter is None:
        return "none trains all weights, so that every cell has a base of its own"
    if adapter.method not in AT_ONCE:
        return f"{adapter.method} is not computed for several cells; {' and '.join(AT_ONCE)} are"
    if adapter.dora:
        return "dora takes lengths of the sum of base and adapter, which each cell has its own of"
    if adapter.trains_tokens:
        return "tokens = template trains rows of the LM head, which is one for all cells; set none"
    if adapter.takes_from_weights:
        return f"init = {adapter.init} changes the base, differently with every seed"
    return None

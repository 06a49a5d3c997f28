"""Whether a study and a runtime can be had together; each alone is right."""

from wit.config import Runtime, Study
from wit.errors import ConfigError

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

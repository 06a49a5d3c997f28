"""SFT and DPO models as MLflow's logged models: named, measured and found there, never copied."""

from typing import TYPE_CHECKING, Any, Literal

from wit.artifacts import Artifact
from wit.lineage.description import run_name, run_params, run_tags
from wit.lineage.store import Store, cut, origin

if TYPE_CHECKING:
    from mlflow.entities import Run

MODEL_STAGES = ("sft", "dpo")
MODEL_ID = "wit.model_id"  # tag of the run that makes the model


def model_name(run_name: str) -> str:
    """Such as ``sft-p0p2-r1-s0``, after the run that makes it: MLflow takes no dots."""
    return run_name.replace(".", "p").replace(" ", "-")


def ensure_model(
    store: Store, artifact: Artifact, run: "Run", study: str | None, *, is_new: bool
) -> str:
    """The one logged model of the run, found or new; it is PENDING until the artifact is there.

    Args:
        store: Where.
        artifact: An SFT or DPO model.
        run: That of the artifact, as it was found or made.
        study: Name of the study that wants it, for the model's tags.
        is_new: The run was made just now, so there is nothing to find.

    Returns:
        Its id.
    """
    from mlflow.entities import LoggedModelOutput

    outputs: Any = run.outputs.model_outputs if run.outputs else None  # wrongly typed by MLflow
    if outputs:
        return outputs[0].model_id
    # A kill may have come between the model and its link to the run.
    begun = not is_new and store.client.search_logged_models(
        [store.experiment_id],
        f"source_run_id = '{run.info.run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": True}],
    )
    model_id = begun[0].model_id if begun else _create(store, artifact, run, study)
    store.client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _create(store: Store, artifact: Artifact, run: "Run", study: str | None) -> str:
    name = run.info.run_name or run_name(artifact)
    tags = {
        key: value
        for key, value in run_tags(artifact).items()
        if key != "wit.ancestors"  # the run has them
    }
    tags |= origin() | {"mlflow.model.isExternal": "true"}  # the weights stay where they are
    tags["mlflow.note.content"] = (
        f"The {artifact.stage.upper()} model of cell {name.partition(' ')[2]}; its weights are in "
        f"`{artifact.path / 'model'}`. All that it was made of, and that came of it: "
        f"`wit lineage {artifact.fingerprint}`"
    )
    if study is not None:
        tags[f"wit.study.{study}"] = "yes"
    model = store.client.create_logged_model(
        store.experiment_id,
        name=model_name(name),
        source_run_id=run.info.run_id,
        tags=cut(tags, "tags"),
        params=cut(run_params(artifact) | {"stage": artifact.stage}, "params"),
        model_type=artifact.stage,
    )
    return model.model_id


def set_status(store: Store, model_id: str, status: Literal["READY", "FAILED"]) -> None:
    """Says what became of the model."""
    store.client.finalize_logged_model(model_id, status)


def join_study(store: Store, model_id: str, study: str) -> None:
    """Says that a study uses the model too; its versions stand with the runs."""
    store.client.set_logged_model_tags(model_id, {f"wit.study.{study}": "yes"})

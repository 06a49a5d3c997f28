"""The card of a model, in Markdown as Hugging Face shows it; every value comes from records."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import PurePath
from typing import Any, NamedTuple

import jinja2
import yaml
from pydantic import ValidationError

from wit._card_scores import Scoreboard
from wit.alignment_recipes import DPORecipe
from wit.data.card import CARD, read_card
from wit.data.overlap import Overlap
from wit.evaluation_recipes import OverlapRecipe
from wit.records import Kept, kept
from wit.roles import Role
from wit.weights import TokenWeights

FRONT = "---\n"
PARTS = {"instructions": "Instructions", "preferences": "Preferences"}
LIMITS = (
    "Nothing was measured but what stands above: nothing about safety, bias or other languages.",
    "Its licence follows from those of its base and of its data, which are not recorded.",
)


class DataSet(NamedTuple):
    """A set of rows, in words."""

    name: str
    fingerprint: str
    lines: list[str]


def model_card(
    model: Kept, roles: Mapping[str, str] | None = None, choice: Sequence[str] = ()
) -> str:
    """The card of an SFT or DPO model.

    Args:
        model: Its artifact. What other artifacts would say is left out where they are gone.
        roles: Of benchmarks, ``select`` or ``report``, as far as they are known.
        choice: Sentences about why this model was chosen.

    Raises:
        ArtifactError: A record cannot be read.
    """
    sft, trained = model.sft, model.trainings
    board = Scoreboard.of_model(model, sft)
    recipes = {name: _flat(training.recipe) for name, training in _named(trained)}
    limits = [*_limits_of_training(model), *board.limits(roles or {}), *_overlaps(trained, board)]
    return _template().render(
        front_matter=_front_matter(model, sft, trained),
        title=f"{model.stage} {_name(sft, model)} ({model.fingerprint})",
        summary=_summary(model, sft, trained),
        choice=list(choice),
        weights=_weights_by_table(sft),
        roles_of_tokens=[role.name.lower() for role in Role if role is not Role.SPECIAL],
        measured=list(board.models),
        scores=board.rows(roles or {}),
        likelihoods=board.likelihoods(),
        data_sets=list(_data_sets(trained)),
        limits=[*limits, *LIMITS],
        recipes=recipes,
        knobs=list(dict.fromkeys(knob for recipe in recipes.values() for knob in recipe)),
        lineage=list(_lineage(model)),
        versions=_versions(model),
    )


def shortened(card: str, max_characters: int, rest: str) -> str:
    """The card without its front matter, cut between sections if it is too long.

    Args:
        card: As ``model_card`` makes it.
        max_characters: Of the result.
        rest: Where the whole card is; said where something was left out.
    """
    body = card.split(FRONT, 2)[2].strip()
    if len(body) <= max_characters:
        return body
    note = f"\n\nThe rest of this card: {rest}"
    sections = body.split("\n## ")
    while len(sections) > 1 and len("\n## ".join(sections) + note) > max_characters:
        sections.pop()
    return ("\n## ".join(sections).rstrip() + note)[:max_characters]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wit", "."),
        autoescape=False,  # it is Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("model_card.md.jinja")


def _front_matter(model: Kept, sft: Kept | None, trained: Sequence[Kept]) -> str:
    """What the hub reads; only what is known, and only names that the hub has."""
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if sft is not None and sft.parents["base"].get("revision"):
        front["base_model"] = sft.parents["base"]["location"]
        front["base_model_relation"] = "finetune"
    on_hub = {
        source["location"]
        for training in trained
        for data in [_data_of(training)]
        if data is not None
        for source in _sources(data).values()
        if source.get("revision")
    }
    if on_hub:
        front["datasets"] = sorted(on_hub)
    front["tags"] = ["wit", "weighted-instruction-tuning", model.stage]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _name(sft: Kept | None, model: Kept) -> str:
    weights = "" if sft is None else f"{TokenWeights.model_validate(sft.recipe['weights'])}-"
    return f"{weights}s{model.recipe['seed']}"


def _named(trained: Sequence[Kept]) -> Iterator[tuple[str, Kept]]:
    """Each training with its name: of several alignments, numbered."""
    num_aligned = sum(training.stage == "dpo" for training in trained)
    numbers = count(1)
    for training in trained:
        is_one_of_several = training.stage == "dpo" and num_aligned > 1
        number = f" {next(numbers)}" if is_one_of_several else ""
        yield f"{training.stage.upper()}{number}", training


def _method(training: Kept) -> str:
    """Objective and beta of an alignment, in words."""
    try:
        return DPORecipe.model_validate(training.recipe).label
    except ValidationError:  # of another version of wit
        return "see its recipe below"


def _summary(model: Kept, sft: Kept | None, trained: Sequence[Kept]) -> str:
    base = "a base model"
    if sft is not None:
        base = f"{_place(sft.parents['base'])} (`{sft.parents['base']['fingerprint']}`)"
    alignments = [one for one in trained if one.stage == "dpo"]
    if model.recipe.get("on_policy"):
        alignments = [model]  # it counts the rounds before it
    methods = "; then ".join(map(_method, alignments))
    aligned = f", then aligned with preferences ({methods})" if methods else ""
    adapters = [a["method"] for one in trained if (a := one.recipe.get("adapter"))]
    methods = " and ".join(dict.fromkeys(adapters))
    merged = f" Adapters ({methods}) were trained and are merged into the weights."
    return (
        f"A causal language model: {base}, instruction-tuned with loss weights on prompt and "
        f"response tokens{aligned}. Seed {model.recipe['seed']}.{merged if adapters else ''}"
    )


def _weights_by_table(sft: Kept | None) -> dict[str, dict[str, str]]:
    """Weight of every role, in general and in sources that have a table of their own."""
    if sft is None:
        return {}
    weights = TokenWeights.model_validate(sft.recipe["weights"])
    tables = {"weight": weights.by_role()}
    tables |= {f"in {name}": weights.table(name) for name in sorted(weights.sources)}
    return {
        name: {role.name.lower(): f"{weight:g}" for role, weight in table.items()}
        for name, table in tables.items()
    }


def _data_of(training: Kept) -> Kept | None:
    return training.parent("instructions" if training.stage == "sft" else "preferences")


def _sources(data: Kept) -> dict[str, dict[str, Any]]:
    """Where the rows come from, by name; the empty name is that of a single place."""
    return {
        part.removeprefix("rows").removeprefix(":"): parent
        for part, parent in data.parents.items()
        if part.split(":")[0] == "rows"
    }


def _data_sets(trained: Sequence[Kept]) -> Iterator[DataSet]:
    known: set[str] = set()
    for training in trained:
        part = "instructions" if training.stage == "sft" else "preferences"
        described, data = training.parents[part], _data_of(training)
        if described["fingerprint"] in known:  # of an earlier round
            continue
        known.add(described["fingerprint"])
        lines = ["Its artifact is not kept any more."] if data is None else list(_data_lines(data))
        yield DataSet(PARTS[part], described["fingerprint"], lines)


def _data_lines(data: Kept) -> Iterator[str]:
    if data.stage == "pairs":
        drawn, prompts = data.recipe, data.parents["preferences"]["fingerprint"]
        yield (
            f"round {drawn['round']}: of {drawn['num_responses']} responses of its own to each "
            f"prompt of `{prompts}` the best and the worst, by {drawn['scorer']}"
        )
    for name, source in _sources(data).items():
        of = f"source {name}" if name else "from"
        yield f"{of}: {_place(source)}, digest `{source['fingerprint']}`"
    if (data.path / CARD).is_file():
        card = read_card(data.path)
        rows = card["rows"]
        yield (
            f"{card['rows_in']:,} rows read, {rows['train']:,} trained on, "
            f"{rows['held_out']:,} held out"
        )
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in card["dropped"].items())
        yield f"dropped: {dropped or 'none'}; cut to their length: {card['truncated']:,}"
    knobs = ("max_tokens", "near_duplicates", "overlap")
    told = [f"{knob} {data.recipe[knob]}" for knob in knobs if data.recipe.get(knob) is not None]
    if told:
        yield f"as told: {', '.join(told)}"


def _place(source: Mapping[str, Any]) -> str:
    """A repository at its commit, or a file's name: a whole path says more than one may publish."""
    if source.get("revision"):
        return f"{source['location']} at {source['revision'][:8]}"
    name = PurePath(source["location"]).name
    return f"the local {'file' if source['kind'] == 'rows' else 'folder'} `{name}`"


def _limits_of_training(model: Kept) -> Iterator[str]:
    yield f"One training, with seed {model.recipe['seed']}: another seed gives another model."


def _overlaps(trained: Sequence[Kept], board: Scoreboard) -> Iterator[str]:
    """Whether items of the benchmarks stand in the rows that were trained on."""
    data = {d.fingerprint for training in trained if (d := _data_of(training)) is not None}
    found: dict[str, str] = {}
    for artifact in kept(trained[0].root, "overlap"):
        searched = {parent["fingerprint"] for parent in artifact.parents.values()}
        is_of_today = artifact.record["stage"] == OverlapRecipe.stage  # older ones say other things
        if data and data <= searched and is_of_today:
            overlap = Overlap.load(artifact.path)
            for name, figures in overlap.benchmarks.items():
                found[name] = (
                    f"{name}: {figures.num_overlapping:,} of the {figures.num_looked_for:,} items "
                    f"that were looked for share {overlap.num_words} words in a row with the "
                    "training text."
                )
    names = sorted({name for name, *_ in board.own})
    yield from (found[name] for name in names if name in found)
    unknown = [name for name in names if name not in found]
    if unknown:
        yield f"Whether items of {', '.join(unknown)} stand in the training text is not known."


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Knobs under dotted names; the weights have a table of their own."""
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        if key == "weights":
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = "" if value is None else str(value)
    return flat


def _lineage(model: Kept, depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Depth, name and fingerprint of an artifact and of all that it was made of."""
    if depth == 0:
        yield 0, model.stage, model.fingerprint
    for part, parent in model.parents.items():
        is_source = "revision" in parent
        place = f", {_place(parent)}" if is_source else ""
        yield depth + 1, f"{part}{place}", parent["fingerprint"]
        above = None if is_source else model.parent(part)
        if above is not None:
            yield from _lineage(above, depth + 1)


def _versions(model: Kept) -> str:
    made = model.record["made"]
    packages = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    commit = f", wit at commit {made['commit']}" if made["commit"] else ""
    return f"Made at {made['at']} with Python {made['python']}, {packages}{commit}."

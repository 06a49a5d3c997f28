"""What a study names and we did not make: the base, rows, benchmarks; known by their content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wit.artifacts import Artifact, Source
from wit.base_files import base_files
from wit.config import BUILTIN, Study
from wit.data.schema import INSTRUCTION_SHAPES, PREFERENCE_SHAPES, column_names
from wit.data.templates import read_template
from wit.errors import ConfigError, DataError, InputError
from wit.evaluation.catalogue import resolve_benchmark
from wit.evaluation.local_rows import check_examples
from wit.files import digest_of_files, sha256_of, stamps_of
from wit.judging.suites import source_of
from wit.recipes import LocatedInput, RowsRecipe

TRAINED_ON = ("instructions", "preferences")
SHAPES = {
    "instructions": INSTRUCTION_SHAPES,
    "preferences": PREFERENCE_SHAPES,
    "text": (("text",),),
}


@contextmanager
def _about(study: Study, *key: str | int) -> Iterator[None]:
    """Has what is wrong say which key it is about, and where that stands."""
    try:
        yield
    except InputError as error:
        place = study.places.of(key)
        dotted = ".".join(map(str, key))
        raise type(error)(f"{f'{place}: ' if place else ''}{dotted}: {error}") from None


def base_sources(study: Study) -> tuple[Source, Source]:
    """The base model, and apart from it its tokenizer with the study's template."""
    base = study.base
    with _about(study, "base", "template"):
        template = read_template(base.template) or ""
    if base.repo is not None:
        commit = f"{base.repo}@{base.revision}"
        return (
            _hub_source("model", base, digest_of_files([], commit)),
            _hub_source("tokenizer", base, digest_of_files([], commit, template)),
        )
    folder = _local_path(base, "base")
    with _about(study, "base", "path"):
        model_files, tokenizer_files = base_files(folder)
    return (
        Source(
            kind="model",
            fingerprint=digest_of_files(model_files),
            location=str(folder),
            stamps=stamps_of(model_files),
        ),
        Source(
            kind="tokenizer",
            fingerprint=digest_of_files(tokenizer_files, template),
            location=str(folder),
            stamps=stamps_of(tokenizer_files),
        ),
    )


def reward_models_of(study: Study) -> dict[str, Source]:
    """Reward models that rank responses on policy, as ``reward_model:NAME`` of the alignment.

    Raises:
        InputError: One is not there, or gives no reward; says where it stands.
    """
    found = {}
    for name, knobs in study.aligned_by.items():
        where = knobs.on_policy and knobs.on_policy.reward_model
        if where is None:
            continue
        part, key = f"reward_model:{name}", (*study.key_of(name, "on_policy"), "reward_model")
        if where.repo is not None:
            digest = digest_of_files([], f"{where.repo}@{where.revision}")
            found[part] = _hub_source("model", where, digest)
            continue
        from wit.on_policy.reward_files import check_reward_model

        with _about(study, *key, "path"):
            check_reward_model(Path(str(where.path)))
            files = [file for kind in base_files(Path(str(where.path))) for file in kind]
        found[part] = Source(
            kind="model",
            fingerprint=digest_of_files(files),
            location=str(where.path),
            stamps=stamps_of(files),
        )
    return found


def row_files(artifact: Artifact) -> dict[str, Path]:
    """Local files of a data stage's sources, by name; the empty name is that of a single place."""
    return {
        part.removeprefix("rows").removeprefix(":"): source.path
        for part, source in artifact.parents.items()
        if part.split(":")[0] == "rows" and isinstance(source, Source) and not source.revision
    }


def rows_by_source(study: Study, name: str) -> dict[str, Source]:
    """Where rows come from: ``rows``, or ``rows:NAME`` for each source of a mixture."""
    return {
        f"rows:{source}" if source else "rows": rows_of(
            study, recipe, name, *(("sources", source) if source else ())
        )
        for source, recipe in getattr(study, name).by_source().items()
    }


def rows_of(study: Study, recipe: RowsRecipe, name: str, *key: str) -> Source:
    """Rows of one place.

    Args:
        study: That names them.
        recipe: Where they are.
        name: Key of the study under which they stand.
        *key: Where below that.

    Raises:
        InputError: There are none, or a column's name is not known here; says where it stands.
    """
    allowed = column_names(SHAPES[name])
    for column in recipe.columns:
        with _about(study, name, *key, "columns", column):
            if column not in allowed:
                raise ConfigError(f"unknown name. Allowed here: {', '.join(sorted(allowed))}")
    if recipe.repo is not None:
        commit = f"{recipe.repo}@{recipe.revision}"
        return _hub_source("rows", recipe, digest_of_files([], commit))
    return _file(study, _local_path(recipe, name), name, *key, "path")


def prompts_of(study: Study, name: str) -> Source:
    """The file of prompts under a key of the study.

    Raises:
        InputError: There is none, or a row of it is no prompt; says where it stands.
    """
    from wit.generation.questions import read_questions
    from wit.sensitivity.wordings import read_reworded

    path = _prompts_path(getattr(study, name).path, name)
    source = _file(study, path, name, "path")
    with _about(study, name, "path"):
        (read_reworded if name == "sensitivity" else read_questions)(path)
    return source


def judged_files(study: Study, number: int) -> tuple[dict[str, Source], dict[str, Source]]:
    """Of one of the sets that are judged: its prompts, and its references or none, as their parts.

    Raises:
        InputError: A file is not there, a row of it cannot be used, or a prompt lacks the reference
            that it needs; says where it stands.
    """
    from wit.judging.inputs import requests_of

    judged = study.judged[number]
    path = _prompts_path(judged.path, "judged")
    prompts = {"prompts": _file(study, path, "judged", number, "path")}
    references = {}
    if judged.references is not None:
        place = Path(judged.references)
        references = {"references": _file(study, place, "judged", number, "references")}
    with _about(study, "judged", number):
        requests_of(judged, path, max_response_tokens=0)
    return prompts, references


def _prompts_path(path: str, name: str) -> Path:
    if path != BUILTIN:
        return Path(path)
    from wit.builtin import DATA_DIR

    return DATA_DIR / f"{name}.jsonl"


def _file(study: Study, path: Path, *key: str | int) -> Source:
    with _about(study, *key):
        if not path.is_file():
            source = source_of(path)
            fetch = f"; fetch {source} and save it there" if source else ""
            raise DataError(f"{path}: there is no such file{fetch}")
    # The ending says how to read it; the rest of its name says nothing.
    content = digest_of_files([], sha256_of(path), path.suffix.lower())
    return Source(kind="rows", fingerprint=content, location=str(path), stamps=stamps_of([path]))


def _hub_source(kind: str, recipe: LocatedInput, fingerprint: str) -> Source:
    return Source.model_validate(
        {
            "kind": kind,
            "fingerprint": fingerprint,
            "location": recipe.repo,
            "revision": recipe.revision,
        }
    )


def _local_path(recipe: LocatedInput, name: str) -> Path:
    if recipe.path != BUILTIN:
        return Path(str(recipe.path))
    from wit.builtin import BASE_DIR, DATA_DIR

    return BASE_DIR if name == "base" else DATA_DIR / f"{name}.jsonl"


def benchmarks_of(study: Study) -> dict[str, Source]:
    """The study's benchmarks, by the part that they play."""
    sources = {}
    for index, benchmark in enumerate(study.benchmarks):
        key = next((key for key in ("data", "path") if getattr(benchmark, key)), "name")
        with _about(study, "benchmarks", index, key):
            found = resolve_benchmark(
                benchmark.name, benchmark.path, benchmark.data, benchmark.revision
            )
            if found.rows is not None:
                check_examples(benchmark.name, found.rows, benchmark.num_fewshot)
        sources[f"benchmark:{benchmark.name}"] = Source(
            kind="benchmark",
            fingerprint=found.fingerprint,
            location=str(found.yaml_path),
            stamps=stamps_of(found.files),
        )
    return sources

"""MLflow's model registry: versions of a model, with their evidence, all or nothing.

A version names the artifact's folder; weights are not copied.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wit.errors import InputError
from wit.lineage.models import MODEL_ID
from wit.lineage.store import open_store, translated

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
FINGERPRINT, PATH, ALIAS = "wit.fingerprint", "wit.path", "wit.alias"  # tags of a version
COMPARISON = "wit.compar"  # how the tags begin that say beside whom, and what came of it
NAME = re.compile(r"[A-Za-z0-9][\w .-]{0,198}(?<![ .])")
MAX_DESCRIPTION = 5000  # characters; what a PostgreSQL registry holds
MAX_TAG = 8000  # characters
MODEL_VERSIONS = "mlflow.modelVersions"  # MLflow's tag of a logged model: what it is registered as
CARD = "model_card.md"  # the whole card, among the artifacts of the model's run
_log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A version of a registered model."""

    number: str
    fingerprint: str | None  # None: it was not registered by us
    path: Path | None  # of the artifact, where it was made
    aliases: tuple[str, ...]  # that it has now
    given: str | None = None  # alias that we gave it last; None: a kill came before it


class ModelRegistry:
    """The versions of one model."""

    def __init__(self, name: str, uri: str) -> None:
        """Looks the model up; writes nothing.

        Raises:
            InputError: MLflow takes no such name, or cannot be reached.
        """
        if not NAME.fullmatch(name):
            raise InputError(
                f"--register {name!r}: is no name of a model; use up to 200 letters, digits, "
                "spaces, '-', '_' and '.', a letter or digit first, such as wit-quickstart"
            )
        self.name, self.uri = name, uri
        self._store = open_store(uri)
        self._client = self._store.client
        with translated(uri):
            found = self._client.search_registered_models(f"name = '{name}'")
            self._exists = bool(found)
            aliases = found[0].aliases if found else {}
            self._versions = self._all_versions() if found else []
        self._aliases = {alias: str(number) for alias, number in aliases.items()}

    def _all_versions(self) -> list["ModelVersion"]:
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{self.name}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version))

    def _version(self, version: "ModelVersion") -> Version:
        number, tags = str(version.version), version.tags
        aliases = [alias for alias, pointed in self._aliases.items() if pointed == number]
        path = Path(tags[PATH]) if PATH in tags else None
        given = tags.get(ALIAS)
        return Version(number, tags.get(FINGERPRINT), path, tuple(sorted(aliases)), given)

    @property
    def champion(self) -> Version | None:
        """The version that has the alias; None: none has."""
        number = self._aliases.get(CHAMPION)
        found = (v for v in self._versions if str(v.version) == number)
        return next((self._version(version) for version in found), None)

    def version_of(self, fingerprint: str) -> Version | None:
        """The version of a model; None: it was never registered."""
        found = (v for v in self._versions if v.tags.get(FINGERPRINT) == fingerprint)
        return next((self._version(version) for version in found), None)

    def is_newest(self, version: Version) -> bool:
        """Whether no version was made after it."""
        return version.number == str(self._versions[-1].version)

    def add(
        self,
        folder: Path,
        run_id: str,
        alias: str,
        tags: Mapping[str, str],
        card: str,
        description: str,
    ) -> Version:
        """A new version with its tags, description and alias; or none at all.

        Args:
            folder: The model's, in its artifact.
            run_id: MLflow run of the artifact; keeps the whole card.
            alias: ``champion`` or ``challenger``; another version that had it loses it.
            tags: Evidence.
            card: The whole model card.
            description: What MLflow shows of it, at most ``MAX_DESCRIPTION`` characters.

        Raises:
            InputError: MLflow refuses it, or cannot be reached.
        """
        is_new = not self._exists
        number = model_id = None
        artifact = folder.parent
        marks = {FINGERPRINT: artifact.name, PATH: str(artifact)}
        try:
            with translated(self.uri):
                self._client.log_text(run_id, card, CARD)
                model_id = self._client.get_run(run_id).data.tags.get(MODEL_ID)
                if is_new:
                    self._client.create_registered_model(self.name)
                    self._exists = True
                made = self._client.create_model_version(
                    self.name,
                    self._source(folder, run_id, model_id),
                    run_id=run_id,
                    tags={key: value[:MAX_TAG] for key, value in {**tags, **marks}.items()},
                    description=description,
                    model_id=model_id,
                )
                number = str(made.version)
                self._give(number, alias)
                self._tell_model(model_id, number)
        except BaseException:
            self._undo(number, alias, model_id, is_new=is_new)
            raise
        return Version(number, artifact.name, artifact, (alias,), alias)

    def promote(
        self, version: Version, run_id: str, tags: Mapping[str, str], card: str, description: str
    ) -> Version:
        """Makes a version that exists champion, with new evidence; or leaves the aliases alone.

        Args:
            version: It is no challenger any more.
            run_id: MLflow run of the artifact; keeps the whole card.
            tags: Evidence, in the place of what was said of an earlier comparison.
            card: The whole model card.
            description: What MLflow shows of it, at most ``MAX_DESCRIPTION`` characters.

        Raises:
            InputError: MLflow refuses it, or cannot be reached.
        """
        number = version.number
        [known] = (v for v in self._versions if str(v.version) == number)
        try:
            with translated(self.uri):
                self._client.log_text(run_id, card, CARD)
                self._client.update_model_version(self.name, number, description)
                for key in known.tags:
                    if key.startswith(COMPARISON) and key not in tags:
                        self._client.delete_model_version_tag(self.name, number, key)
                for key, value in tags.items():
                    self._client.set_model_version_tag(self.name, number, key, value[:MAX_TAG])
                self._give(number, CHAMPION)
                if CHALLENGER in version.aliases:
                    self._client.delete_registered_model_alias(self.name, CHALLENGER)
        except BaseException:
            self._try(f"alias {CHAMPION}", lambda: self._set_back(CHAMPION, number))
            raise
        others = (alias for alias in version.aliases if alias != CHALLENGER)
        aliases = tuple(sorted((CHAMPION, *others)))
        return version._replace(aliases=aliases, given=CHAMPION)

    def give(self, version: Version, alias: str) -> Version:
        """Gives a version the alias that a kill kept from it."""
        with translated(self.uri):
            self._give(version.number, alias)
        return version._replace(aliases=tuple(sorted({*version.aliases, alias})), given=alias)

    def _give(self, number: str, alias: str) -> None:
        """The alias first: only one that was given can have been taken away by a person."""
        self._client.set_registered_model_alias(self.name, alias, number)
        self._client.set_model_version_tag(self.name, number, ALIAS, alias)

    def _set_back(self, alias: str, number: str) -> None:
        """Takes the alias from a version; who had it before has it again."""
        now = self._client.get_registered_model(self.name).aliases.get(alias)
        if now is None or str(now) != number:
            return
        if alias in self._aliases:
            self._client.set_registered_model_alias(self.name, alias, self._aliases[alias])
        else:
            self._client.delete_registered_model_alias(self.name, alias)

    def _source(self, folder: Path, run_id: str, model_id: str | None) -> str:
        """Where the weights are; a server takes no local folder, so there it is named by a tag."""
        if not self.uri.startswith("http"):
            return folder.as_uri()
        return f"runs:/{run_id}/model" if model_id is None else f"models:/{model_id}"

    def _tell_model(self, model_id: str | None, number: str, *, is_there: bool = True) -> None:
        """Has the list of models show the version beside the model, or not any more.

        A server does the former itself, a database does not.
        """
        if model_id is None:
            return
        known = self._client.get_logged_model(model_id).tags.get(MODEL_VERSIONS, "[]")
        mine = {"name": self.name, "version": number}
        versions = [v for v in json.loads(known) if {**v, "version": str(v["version"])} != mine]
        versions += [mine] if is_there else []
        self._client.set_logged_model_tags(model_id, {MODEL_VERSIONS: json.dumps(versions)})

    def _undo(self, number: str | None, alias: str, model_id: str | None, *, is_new: bool) -> None:
        if number is not None:
            self._try(
                f"the logged model's tag of version {number}",
                lambda: self._tell_model(model_id, number, is_there=False),
            )
            self._try(f"alias {alias}", lambda: self._set_back(alias, number))
            self._try(
                f"version {number}", lambda: self._client.delete_model_version(self.name, number)
            )
        if is_new and self._exists:
            self._try("an empty model", lambda: self._client.delete_registered_model(self.name))

    def _try(self, left: str, mend: Callable[[], None]) -> None:
        try:
            with translated(self.uri):
                mend()
        except InputError as error:
            _log.warning("%s of %s may be left in the registry: %s", left, self.name, error)


def folder_in_mlflow(run_id: str, uri: str) -> Path | None:
    """Where the artifact of a run was made, as MLflow knows it."""
    with translated(uri):
        tags = open_store(uri).client.get_run(run_id).data.tags
    return Path(tags["wit.path"]) if "wit.path" in tags else None


def registered_fingerprints(uri: str) -> set[str]:
    """Artifacts that a version of any model in the registry names, whatever alias it has.

    Raises:
        InputError: MLflow refuses, or cannot be reached.
    """
    store = open_store(uri, creates=False)
    found: set[str] = set()
    token = None
    with translated(uri):
        while True:
            page = store.client.search_model_versions(page_token=token)
            found |= {version.tags[FINGERPRINT] for version in page if FINGERPRINT in version.tags}
            token = page.token
            if not token:
                return found

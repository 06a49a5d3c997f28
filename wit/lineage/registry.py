"""MLflow's model registry: versions of a model, with their evidence, all or nothing.

A version names the artifact's folder; weights are not copied.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wit.errors import InputError
from wit.lineage.store import open_store, translated

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
FINGERPRINT, PATH, ALIAS = "wit.fingerprint", "wit.path", "wit.alias"  # tags of a version
NAME = re.compile(r"[A-Za-z0-9][\w .-]{0,198}(?<![ .])")
MAX_DESCRIPTION = 5000  # characters; what a PostgreSQL registry holds
MAX_TAG = 8000  # characters
CARD = "model_card.md"  # the whole card, among the artifacts of the model's run
_log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A version of a registered model."""

    number: str
    fingerprint: str | None  # None: it was not registered by us
    path: Path | None  # of the artifact, where it was made
    aliases: tuple[str, ...]


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
        return Version(number, tags.get(FINGERPRINT), path, tuple(sorted(aliases)))

    @property
    def champion(self) -> Version | None:
        """The version that has the alias; None: none has."""
        number = self._aliases.get(CHAMPION)
        found = (v for v in self._versions if str(v.version) == number)
        return next((self._version(version) for version in found), None)

    def version_of(self, fingerprint: str) -> Version | None:
        """The version of a model, with the alias that it was meant to have.

        A kill may have come between the version and its alias; the newest version gets its own
        then. Any other one without an alias has lost it to a later one.
        """
        for version in self._versions:
            if version.tags.get(FINGERPRINT) != fingerprint:
                continue
            alias = version.tags.get(ALIAS)
            known = self._version(version)
            if alias and not known.aliases and version is self._versions[-1]:
                with translated(self.uri):
                    self._client.set_registered_model_alias(self.name, alias, known.number)
                known = known._replace(aliases=(alias,))
            return known
        return None

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
        number = None
        artifact = folder.parent
        marks = {FINGERPRINT: artifact.name, PATH: str(artifact), ALIAS: alias}
        try:
            with translated(self.uri):
                self._client.log_text(run_id, card, CARD)
                if is_new:
                    self._client.create_registered_model(self.name)
                    self._exists = True
                made = self._client.create_model_version(
                    self.name,
                    self._source(folder, run_id),
                    run_id=run_id,
                    tags={key: value[:MAX_TAG] for key, value in {**tags, **marks}.items()},
                    description=description,
                )
                number = str(made.version)
                self._client.set_registered_model_alias(self.name, alias, number)
        except BaseException:
            self._undo(number, is_new=is_new)
            raise
        return Version(number, artifact.name, artifact, (alias,))

    def _source(self, folder: Path, run_id: str) -> str:
        """Where the weights are; a server takes no local folder, so there it is named by a tag."""
        return f"runs:/{run_id}/model" if self.uri.startswith("http") else folder.as_uri()

    def _undo(self, number: str | None, *, is_new: bool) -> None:
        try:
            with translated(self.uri):
                if number is not None:
                    self._client.delete_model_version(self.name, number)
                if is_new and self._exists:
                    self._client.delete_registered_model(self.name)
        except InputError as error:
            left = f"version {number}" if number else "an empty model"
            _log.warning("%s of %s may be left in the registry: %s", left, self.name, error)


def folder_in_mlflow(run_id: str, uri: str) -> Path | None:
    """Where the artifact of a run was made, as MLflow knows it."""
    with translated(uri):
        tags = open_store(uri).client.get_run(run_id).data.tags
    return Path(tags["wit.path"]) if "wit.path" in tags else None

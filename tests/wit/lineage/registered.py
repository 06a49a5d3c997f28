"""What the tests of the registry share: answers of models, and a look into the registry."""

import json
import sqlite3
from contextlib import closing

from mlflow.entities.model_registry import ModelVersion

from wit.lineage.store import open_store, sqlite_file

GOOD = [1.0] * 30 + [0.0] * 10
SAME = [0.0] * 10 + [1.0] * 30  # as good, on other items
BETTER = [1.0] * 39 + [0.0]
WORSE = [1.0] * 5 + [0.0] * 35


def versions(uri: str, name: str = "tiny-model") -> dict[str, ModelVersion]:
    found = open_store(uri).client.search_model_versions(f"name = '{name}'")
    return {str(version.version): version for version in found}


def aliases(uri: str, name: str = "tiny-model") -> dict[str, str]:
    [model] = open_store(uri).client.search_registered_models(f"name = '{name}'")
    return {alias: str(version) for alias, version in model.aliases.items()}


def registered_as(uri: str, fingerprint: str) -> list[tuple[str, str]]:
    """Names and versions that MLflow's list of models shows beside a model."""
    store = open_store(uri)
    model_id = store.find(fingerprint).data.tags["wit.model_id"]
    known = store.client.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]")
    return [(version["name"], str(version["version"])) for version in json.loads(known)]


def change(uri: str, *statements: str) -> None:
    with closing(sqlite3.connect(sqlite_file(uri))) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()

"""A store of artifacts, of either kind, and two machines."""

from pathlib import Path
from uuid import uuid4

import pytest
from made_up import make
from object_store import make_bucket
from stored_artifacts import artifact_in

from wit.artifact_store import ArtifactStore
from wit.artifacts import Artifact
from wit.remote_files import files_at


@pytest.fixture(params=["s3", "folder"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty place on a server, or in a folder that machines share."""
    if request.param == "s3":
        address = request.getfixturevalue("object_store")
        return f"{make_bucket(address, f'bucket-{uuid4().hex[:12]}')}/some/folder"
    (tmp_path / "shared").mkdir()
    return f"file://{tmp_path}/shared"


@pytest.fixture
def store(store_url: str) -> ArtifactStore:
    return ArtifactStore(files_at(store_url))


@pytest.fixture
def ours(tmp_path: Path) -> Artifact:
    return make(artifact_in(tmp_path / "ours"))


@pytest.fixture
def theirs(tmp_path: Path) -> Artifact:
    """The same on another machine, where it is not made yet."""
    return artifact_in(tmp_path / "theirs")

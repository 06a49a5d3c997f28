"""A store that is wrong is refused in one sentence, without a secret; one that is away, as such."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from object_store import SECRET, ask_for_credentials, free_port, make_bucket

from wit import remote_files
from wit.artifact_store import store_of
from wit.config import Runtime
from wit.errors import ArtifactError, ConfigError, InputError, StoreAwayError
from wit.loading import load_runtime
from wit.remote_files import files_at


@pytest.fixture
def bucket(object_store: str) -> str:
    return make_bucket(object_store, f"bucket-{uuid4().hex[:12]}")


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment is read anew, as by a process that starts."""
    remote_files._file_system.cache_clear()
    yield
    monkeypatch.undo()
    remote_files._file_system.cache_clear()


def refusal(url: str, kind: type[InputError] = ArtifactError) -> str:
    """What every first use says; it is the same."""
    said = []
    for use in (lambda files: files.names(), lambda files: files.check_writable()):
        with pytest.raises(InputError) as caught:
            use(files_at(url))
        assert type(caught.value) is kind
        said.append(str(caught.value))
    assert SECRET not in " ".join(said)
    assert "\n" not in " ".join(said)
    assert f"artifact store {url} " in said[0]
    return said[0]


def test_a_bucket_that_is_not_there_is_named(object_store: str) -> None:
    assert "is not there" in refusal("s3://no-bucket/folder")
    assert "bucket" in refusal("s3://no-bucket")


def test_a_folder_that_is_not_mounted_is_no_empty_store(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/not-mounted"
    assert "is not there: no such folder" in refusal(url)
    with pytest.raises(ArtifactError, match="is not there"):
        files_at(url).read("sft/0123456789ab.record.json")
    assert not (tmp_path / "not-mounted").exists()


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ArtifactError, match="artifact store file:///proc/self"):
        files_at("file:///proc/self").check_writable()


def test_credentials_that_nobody_knows_are_refused(object_store: str, bucket: str) -> None:
    ask_for_credentials(object_store, after=0)
    try:
        said = refusal(f"{bucket}/folder")
    finally:
        ask_for_credentials(object_store, after=10**9)
    assert "does not exist in our records" in said
    assert "credentials in the environment" in said


def test_without_credentials_nobody_is_asked(
    bucket: str, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        if "KEY" in name:
            monkeypatch.delenv(name)
    assert "Unable to locate credentials" in refusal(f"{bucket}/folder")


def test_a_server_that_is_down_may_be_up_later(
    bucket: str, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreAwayError, match="does not answer: Could not connect"):
        files_at(bucket).exists("record")
    assert StoreAwayError.may_pass


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/mnt/shared", "is no URL of a store; write s3://BUCKET/FOLDER"),
        ("s3://", "is no URL"),
        ("file:///", "is no URL"),
        ("s3://bucket/x::file:///y", "is no URL"),
        ("file://shared/folder", "an absolute path"),
        ("memory://x", "memory is gone with its process"),
        ("wat://bucket/folder", "Protocol not known: wat"),
        ("gs://bucket/folder", "gcsfs"),
        ("abfs://container@account.dfs.core.windows.net/folder", "adlfs"),
        (f"s3://key:{SECRET}@bucket/folder", "= s3://bucket/folder: has a user"),
        (f"s3://key:a/{SECRET}@bucket/folder", "= s3://bucket/folder: has a user"),
        (f"s3://key:12/{SECRET}@bucket/folder", "= s3://bucket/folder: has a user"),
        (f"s3://key:a#{SECRET}@bucket/folder", "has a user"),
        (f"abfs://container:{SECRET}@account/folder", "has a user"),
        (f"s3://bucket/folder?secret={SECRET}", "= s3://bucket/folder: has a user"),
    ],
)
def test_a_url_that_is_wrong_is_refused_before_anybody_is_asked(
    url: str, says: str, tmp_path: Path
) -> None:
    runtime = load_runtime(None, [f"artifact_root={tmp_path}", f"artifact_store={url}"])
    with pytest.raises(ConfigError) as caught:
        store_of(runtime)
    message = str(caught.value)
    assert message.startswith("runtime artifact_store = ")
    assert says in message
    assert SECRET not in message


@pytest.mark.parametrize("store", ["", "root", "root/store", "root/../root"])
def test_root_and_store_are_apart(store: str, tmp_path: Path) -> None:
    place = f"file://{tmp_path / store}"
    with pytest.raises(ConfigError, match="choose two folders apart"):
        store_of(Runtime(artifact_root=tmp_path / "root", artifact_store=place))

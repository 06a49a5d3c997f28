"""Tracking stores: an empty one, one of a finished study, and a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from contest import Contest, held_again, hold
from mlflow_server import served
from postgresql_cluster import cluster
from registered import GOOD
from sqlalchemy import create_engine, text
from tiny_study import STUDY, Plan, make, plan

from wit import lineage


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    lineage.prepare(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty_store, tmp_path) -> str:
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_store, file)  # 3 ms; making one takes a second
    return f"sqlite:///{file}"


@pytest.fixture
def root(tmp_path: Path, uri: str) -> Path:
    """Of artifacts, with a store."""
    return tmp_path


@pytest.fixture(scope="session")
def finished(empty_store, tmp_path_factory) -> tuple[Plan, str]:
    """A study that ran to its end; read it, do not write to it."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, root / "mlflow.db")
    artifacts, uri = plan(root), f"sqlite:///{root}/mlflow.db"
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    lineage.end_study(run, uri, is_failed=False)
    return artifacts, uri


@pytest.fixture
def ended(finished: tuple[Plan, str], tmp_path: Path) -> tuple[Path, Plan, str]:
    """A root that was moved after STUDY had run there; to run it again here would take seconds."""
    [old] = {artifact.root for artifact in finished[0].all}
    root = shutil.copytree(old, tmp_path / "ended")
    return root, plan(root), f"sqlite:///{root}/mlflow.db"


@pytest.fixture(scope="session")
def held(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """A study of one cell that ran to its end; nothing is ever registered of it."""
    root = tmp_path_factory.mktemp("held")
    shutil.copy(empty_store, root / "mlflow.db")
    return hold(root, f"sqlite:///{root}/mlflow.db", "first", {"p0-r1-s0": GOOD})


@pytest.fixture
def first(held: Contest, tmp_path: Path, uri: str) -> Contest:
    """The same in the test's own root and store, of which ``uri`` is the address."""
    return held_again(held, tmp_path)


@pytest.fixture(scope="module")  # not for the session: tests plan the same artifacts
def server(empty_store, tmp_path_factory, forking) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "server.db")
    with served(forking, f"sqlite:///{folder}/server.db", folder) as uri:
        yield uri


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The first database of a PostgreSQL cluster that belongs to this session."""
    with cluster() as port:
        yield f"postgresql+psycopg2://wit@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def database(postgresql, request) -> str:
    """A PostgreSQL database that only the tests of this file use."""
    name = request.module.__name__
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgresql.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def postgresql_server(database, tmp_path_factory, forking) -> Iterator[str]:
    """A real MLflow server on PostgreSQL."""
    with served(forking, database, tmp_path_factory.mktemp("postgresql")) as uri:
        yield uri

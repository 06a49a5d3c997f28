"""Databases for both servers on a real PostgreSQL, and what is said where they cannot be had."""

import asyncio
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from postgresql_cluster import USER, cluster
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from wit.errors import InputError
from wit.serving.postgres import make_databases

PASSWORD = "p@ss/w%rd:#é x"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a PostgreSQL server that wants a password, without the name of a database."""
    with cluster(PASSWORD) as port:
        yield f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"


def ask(address: str, command: str) -> list:
    url = make_url(address).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        done = connection.execute(text(command))
        rows = list(done) if done.returns_rows else []
    engine.dispose()
    return rows


def test_each_server_has_a_database_of_its_own_and_a_second_start_changes_nothing(
    server: str,
) -> None:
    made = make_databases(f"{server}/studies")
    assert make_databases(f"{server}/studies") == made
    assert made.prefect.startswith("postgresql+asyncpg://")
    assert make_url(made.prefect).password == PASSWORD
    names = {name for (name,) in ask(f"{server}/postgres", "SELECT datname FROM pg_database")}
    assert names >= {"studies_prefect", "studies_mlflow"}
    assert "studies" not in names, "it only gives the name"
    [(found,)] = ask(made.mlflow, "SELECT current_database()")
    assert found == "studies_mlflow"


async def database_behind(address: str) -> str:
    """As Prefect asks."""
    engine = create_async_engine(address)
    async with engine.connect() as connection:
        found = await connection.scalar(text("SELECT current_database()"))
    await engine.dispose()
    return found


def test_a_mode_of_ssl_is_told_to_both_in_their_own_words(server: str) -> None:
    made = make_databases(f"{server}/studies?sslmode=disable")
    assert made.prefect.endswith("?ssl=disable")
    assert made.mlflow.endswith("?sslmode=disable")
    assert asyncio.run(database_behind(made.prefect)) == "studies_prefect"
    assert ask(made.mlflow, "SELECT current_database()") == [("studies_mlflow",)]
    assert "rejected SSL" in refusal(f"{server}/studies?sslmode=require")


def test_the_password_may_come_from_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    address = make_url(server)
    made = make_databases(f"postgresql://{USER}@127.0.0.1:{address.port}/studies")
    assert make_url(made.mlflow).password == PASSWORD


def refusal(address: str) -> str:
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        make_databases(address)
    assert time.monotonic() - started < 20
    assert caught.value.__cause__ is None
    [line] = str(caught.value).splitlines()
    assert line.startswith("--postgres")
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "not-the-password"):
        assert secret not in line
    return line


def test_a_wrong_password_is_one_clear_error(server: str) -> None:
    wrong = make_url(server).set(password="not-the-password", database="studies")
    said = refusal(wrong.render_as_string(hide_password=False))
    assert f"refuses the user {USER}" in said


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    assert "127.0.0.1:9: does not answer" in refusal(
        "postgresql://a:not-the-password@127.0.0.1:9/x"
    )
    assert "does not answer" in refusal("postgresql://a:not-the-password@no-such-host.invalid/x")


@pytest.mark.parametrize(
    "address",
    [
        "not-the-password",
        "mysql://a:not-the-password@127.0.0.1/x",
        "postgresql://a:not-the-password@/x",
        "postgresql://a:not-the-password@127.0.0.1:not/x",
        "postgresql://a:not-the-password@127.0.0.1/x?options=1",
        "postgresql://a:not-the-password/@127.0.0.1/x",
    ],
)
def test_what_is_no_address_is_not_repeated(address: str) -> None:
    assert "write postgresql://USER:PASSWORD@HOST:PORT/NAME" in refusal(address)


def test_a_user_who_may_create_nothing_is_told_what_to_have_created(server: str) -> None:
    ask(f"{server}/postgres", "CREATE ROLE guest LOGIN PASSWORD 'not-the-password'")
    port = make_url(server).port
    said = refusal(f"postgresql://guest:not-the-password@127.0.0.1:{port}/theirs")
    assert said.endswith('CREATE DATABASE "theirs_prefect" OWNER guest')
    for name in ("theirs_prefect", "theirs_mlflow"):
        ask(f"{server}/postgres", f'CREATE DATABASE "{name}" OWNER guest')
    made = make_databases(f"postgresql://guest:not-the-password@127.0.0.1:{port}/theirs")
    assert make_url(made.mlflow).database == "theirs_mlflow"

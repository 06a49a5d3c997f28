"""No address shows a password, and those without one are shown as they are."""

import pytest

from wit.lineage.addresses import shown

DB = "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"{DB}://wit:s3cret@db:5432/mlflow", f"{DB}://db:5432/mlflow"),
        (f"{DB}://wit@db/mlflow", f"{DB}://db/mlflow"),
        (f"{DB}://wit:s3cret@[::1]:5432/mlflow", f"{DB}://[::1]:5432/mlflow"),
        (f"{DB}://db/mlflow?user=u&password=s3cret", f"{DB}://db/mlflow?user=u"),
        (f"{DB}://db/mlflow?password=s3cret", f"{DB}://db/mlflow"),
        (f"{DB}://db/mlflow?Access_Token=s3cret&sslmode=on", f"{DB}://db/mlflow?sslmode=on"),
        (f"{DB}:///mlflow?host=db&password=s3cret", f"{DB}:///mlflow?host=db"),
        (f"{DB}://wit:s3cret@db:port/mlflow", f"{DB}://db:port/mlflow"),
        (f"{DB}://wit:s3cret@db:99999/mlflow", f"{DB}://db:99999/mlflow"),
        (f"{DB}://wit:s3cret#1@db/mlflow", f"{DB}://db/mlflow"),
        (f"{DB}://wit:s3cret/1@db/mlflow", f"{DB}://db/mlflow"),
        (f"{DB}://wit:s3cret?1@db/mlflow", f"{DB}://db/mlflow"),
        (f"{DB}://wit:s3c@s3cret/1@db/mlflow", f"{DB}://db/mlflow"),
        ("http://wit:s3cret@host:5000/#/runs/1?a=b", "http://host:5000/#/runs/1?a=b"),
        ("http://wit:s3cret@host/@me", "http://host/@me"),
        ("https://s3crettoken@host", "https://host"),
        ("http://wit:s3cret@[::1:5000", "http://[::1:5000"),
        ("http://host:5000/?key=s3cret#/runs", "http://host:5000/#/runs"),
    ],
)
def test_secrets_are_not_shown(uri: str, expected: str):
    assert shown(uri) == expected
    assert "s3c" not in shown(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////home/me@work/a?b.db",
        "sqlite:///m.db",
        "http://127.0.0.1:5000",
        "http://host/#/experiments/1/runs?orderByKey=metrics.x&monkey=1",
        "http://[::1:5000",
        "databricks",
        "",
    ],
)
def test_an_address_without_secrets_is_shown_as_it_is(uri: str):
    assert shown(uri) == uri

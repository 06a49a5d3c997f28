"""Reading runs: straight from MLflow's tables, or from an MLflow server.

To import mlflow takes seconds, and its own search asks a database once for every few hundred
runs. So a database is read here, in at most four statements however many runs there are.
"""

import gc
import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wit.errors import InputError, StoreDownError
from wit.lineage.failures import failure
from wit.lineage.place import (
    EMPTY,
    EXPERIMENT,
    check_driver,
    is_initialised,
    is_up,
    opened,
    sqlite_file,
    unreachable,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

SQL_SCHEMES = ("sqlite", "postgresql")  # whose dialects the statements below are tested with
TABLES = ("params", "tags", "latest_metrics")
Ask = Callable[[str, Mapping[str, Any]], Sequence[Any]]  # a statement and its values; rows
# Names of runs come as one value, however many they are: a JSON list.
NAMED_RUNS = {
    "sqlite": "SELECT value FROM json_each(:ids)",
    "postgresql": "SELECT json_array_elements_text(CAST(:ids AS json))",
}
_log = logging.getLogger(__name__)  # every statement, for those who count them


class RunRow(NamedTuple):
    """A run as it is stored."""

    run_id: str | None  # None: of an artifact that no store knows yet
    name: str
    status: str  # MLflow's, such as FINISHED
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]  # the last value of each
    url: str | None = None  # in MLflow's UI, where a server shows one


class Condition(NamedTuple):
    """What runs shall fulfil; several are joined by *and*. No value comes unchecked from a user."""

    kind: Literal["tag", "status", "run_id"]
    operator: Literal["=", "!=", "LIKE", "IN"]
    value: str | tuple[str, ...]
    key: str = ""  # of a tag

    def as_filter(self) -> str:
        """For MLflow's search."""
        name = {"tag": f"tags.`{self.key}`", "status": "attributes.status"}
        if isinstance(self.value, tuple):
            return f"attributes.run_id IN ({', '.join(repr(v) for v in self.value)})"
        return f"{name.get(self.kind, 'attributes.run_id')} {self.operator} '{self.value}'"

    def as_sql(self, number: int) -> tuple[str, dict[str, str]]:
        """For the tables; with the values, whose names begin with ``c`` and the number."""
        name = f"c{number}"
        if isinstance(self.value, tuple):
            values = {f"{name}_{i}": value for i, value in enumerate(self.value)}
            return f"r.run_uuid IN ({', '.join(f':{key}' for key in values)})", values
        if self.kind != "tag":
            column = "status" if self.kind == "status" else "run_uuid"
            return f"r.{column} {self.operator} :{name}", {name: self.value}
        tagged = f"SELECT run_uuid FROM tags WHERE key = :{name}_key AND value"
        clause = f"r.run_uuid IN ({tagged} {self.operator} :{name})"
        return clause, {name: self.value, f"{name}_key": self.key}


def tag(key: str, value: str) -> Condition:
    """The tag has this value; ``%`` in it stands for anything."""
    return Condition("tag", "LIKE" if "%" in value else "=", value, key)


@contextmanager
def uncollected() -> Iterator[None]:
    """Nobody looks for garbage meanwhile.

    Of ten thousand runs are made hundreds of thousands of objects that all stay; to look at them
    again and again takes a third of the time, and grows faster than they do.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def find_runs(
    uri: str,
    *conditions: Condition,
    has_params: bool = True,
    keys: Sequence[str] | None = None,
) -> list[RunRow]:
    """Runs of wit that fulfil all conditions, oldest first. Creates nothing.

    Args:
        uri: Tracking URI.
        conditions: All of them hold.
        has_params: Whether params are asked for: of thousands of runs they take as long as tags.
        keys: The params and tags that are needed, where there are many runs; a server gives all.
            Unset: all.

    Raises:
        StoreDownError: Nobody listens there.
        InputError: There is no store, or it is not MLflow's.
    """
    if not is_up(uri):
        raise StoreDownError(unreachable(uri))
    if uri.startswith(SQL_SCHEMES):
        with _connected(uri) as ask:
            dialect = next(scheme for scheme in SQL_SCHEMES if uri.startswith(scheme))
            tables = TABLES if has_params else TABLES[1:]
            return _from_tables(ask, conditions, tables, NAMED_RUNS[dialect], keys)
    from wit.lineage.store import open_store, translated

    store = open_store(uri, creates=False)
    with translated(uri):
        found = store.search(" AND ".join(condition.as_filter() for condition in conditions))
    return [as_row(run, store.run_url(run.info.run_id)) for run in found]


def as_row(run: "Run", url: str | None = None) -> RunRow:
    """What MLflow's client found."""
    info, data = run.info, run.data
    return RunRow(
        info.run_id, info.run_name or "", info.status, data.params, data.tags, data.metrics, url
    )


@contextmanager
def _connected(uri: str) -> Iterator[Ask]:
    """A way to ask the database, for reading alone."""
    file = sqlite_file(uri)
    if file is None:
        yield from _connected_to_server(uri)
        return
    if not is_initialised(file):
        raise InputError(f"{file}: there is no such MLflow store, or it {EMPTY}")
    try:
        with closing(opened(file, timeout=30)) as database:
            database.execute("BEGIN")  # all statements see one state, though runs end meanwhile
            yield lambda sql, values: database.execute(sql, values).fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise failure(error, uri) from None
        raise InputError(f"{file}: cannot be read as MLflow's database ({error})") from None


def _connected_to_server(uri: str) -> Iterator[Ask]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    check_driver(uri)
    engine = create_engine(uri, isolation_level="REPEATABLE READ")  # one state, as above
    try:
        with engine.connect() as connection:
            yield lambda sql, values: connection.execute(text(sql), dict(values)).fetchall()
    except SQLAlchemyError as error:
        raise failure(error, uri) from None
    finally:
        engine.dispose()


def _from_tables(
    ask: Ask,
    conditions: Iterable[Condition],
    tables: Sequence[str],
    named_runs: str,
    keys: Sequence[str] | None,
) -> list[RunRow]:
    clauses, values = ["e.name = :experiment", "r.lifecycle_stage = 'active'"], {}
    values["experiment"] = EXPERIMENT
    for number, condition in enumerate(conditions):
        clause, more = condition.as_sql(number)
        clauses.append(clause)
        values |= more

    def asked(sql: str) -> Sequence[Any]:
        _log.debug("%s", sql)
        return ask(sql, values)

    runs = asked(
        "SELECT r.run_uuid, r.name, r.status "
        "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
        f"WHERE {' AND '.join(clauses)} ORDER BY r.start_time, r.run_uuid"
    )
    if not runs:
        return []
    values = {"ids": json.dumps([run_id for run_id, *_ in runs])}
    values |= {f"k{number}": key for number, key in enumerate(keys or ())}
    is_wanted = f" AND key IN ({', '.join(f':k{n}' for n in range(len(keys)))})" if keys else ""
    found: dict[str, defaultdict[str, dict[str, Any]]] = {t: defaultdict(dict) for t in TABLES}
    for table in tables:
        value = "CASE WHEN is_nan THEN NULL ELSE value END" if "metrics" in table else "value"
        by_run = found[table]
        sql = f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN ({named_runs})"
        sql += "" if "metrics" in table else is_wanted
        for run_id, key, content in asked(sql):
            by_run[run_id][key] = float("nan") if content is None else content
    return [
        RunRow(
            run_id,
            name or "",
            status,
            found["params"][run_id],
            found["tags"][run_id],
            found["latest_metrics"][run_id],
        )
        for run_id, name, status in runs
    ]

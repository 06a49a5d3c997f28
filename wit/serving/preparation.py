"""What has to be there, and free, before ``wit up`` starts anything."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from wit import lineage
from wit.config import Runtime
from wit.errors import InputError
from wit.lineage.addresses import shown
from wit.loading import load_runtime
from wit.serving.environment import home_with_sqlite, one_connection
from wit.serving.postgres import make_databases
from wit.serving.standing import LOCK, claimed, server_folder

RUNTIME = "runtime.yaml"
HOME_LOCK = "wit-up.lock"


def make_folder(runtime: Runtime) -> Path:
    """Logs, and all else that ``wit up`` keeps.

    Raises:
        InputError: It cannot be written.
    """
    folder = server_folder(runtime)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise InputError(
            f"{runtime.artifact_root.resolve()}: the artifact root cannot be written "
            f"({error.strerror}); choose another with --set-runtime artifact_root=DIR"
        ) from None
    return folder


def check_free(host: str, ports: Mapping[str, int]) -> None:
    """Passes if nobody listens on any of the ports, and no two are the same.

    Raises:
        InputError: Naming the port and the option that chooses another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        for option, port in ports.items():
            listener = stack.enter_context(socket.socket(family))
            # As the servers do: connections of the last session that linger do not count.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InputError(
                    f"{host}:{port} cannot be used ({reason}); choose another port with {option}"
                ) from None


@contextmanager
def sqlite_of_prefect(postgres: str | None) -> Iterator[str | None]:
    """Prefect's SQLite, which one server at a time may have; that is where PREFECT_HOME is.

    Yields:
        Its address; None where another database is named.

    Raises:
        InputError: The ``wit up`` of another artifact root has it.
    """
    home = None if postgres else home_with_sqlite()
    if home is None:
        yield None
        return
    home.mkdir(parents=True, exist_ok=True)
    with claimed(home / HOME_LOCK) as is_ours:
        if not is_ours:
            raise InputError(
                f"another wit up has Prefect's database in {home}; end it, or choose another: "
                "PREFECT_HOME=DIR, or --postgres URL"
            )
        yield one_connection(home)


def stores(runtime: Runtime, postgres: str | None) -> tuple[str | None, str]:
    """Databases of Prefect, if ``postgres`` names it, and of MLflow; made if need be.

    Raises:
        InputError: MLflow's is a server already, or two are named, or they cannot be used.
    """
    if postgres:
        if runtime.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
            raise InputError(
                "--postgres names the database of MLflow, and so does MLFLOW_TRACKING_URI or the "
                "runtime's tracking_uri; unset the other"
            )
        return make_databases(postgres)
    store = lineage.tracking_uri(runtime)
    if store.startswith("http"):
        raise InputError(
            f"MLflow shall run at {shown(store)}, but wit up starts its own: unset "
            "MLFLOW_TRACKING_URI, or name a database there"
        )
    lineage.prepare(store)
    return None, store


def runtime_of_deployments(runtime: Runtime, folder: Path, given: Path | None) -> Path:
    """The file that deployments use unless told otherwise.

    It does not name the MLflow server; the environment of the worker does.

    Args:
        runtime: What it shall say.
        folder: Where it is written, unless ``given`` will do.
        given: The user's own, which other machines may have at the same place. It will do if it
            names its root, hands out cells, and no option has changed it.
    """
    if given is not None and runtime.execution == "deployments" and not runtime.tracking_uri:
        own = load_runtime(given)
        if own == runtime and "artifact_root" in own.model_fields_set:
            return given.resolve()
    values = runtime.model_copy(update={"tracking_uri": None}).stated()
    values["artifact_root"] = str(runtime.artifact_root.resolve())
    if "execution" not in runtime.model_fields_set:
        values["execution"] = "deployments"  # for these there are workers here
    content = yaml.safe_dump(values, sort_keys=False)
    file = folder / RUNTIME
    file.write_text(content, encoding="utf-8")
    return file

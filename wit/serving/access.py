"""Where the servers of ``wit up`` listen, and who may ask them.

On the loopback everybody on this machine may, as with Prefect and MLflow themselves. Elsewhere
both ask for a password, which comes from the environment and stays there.
"""

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil

from wit.errors import InputError

LOOPBACK = "127.0.0.1"
PREFECT_AUTH = "PREFECT_SERVER_API_AUTH_STRING"  # USER:PASSWORD, of the server
PREFECT_CLIENT_AUTH = "PREFECT_API_AUTH_STRING"  # the same, of who asks
MLFLOW_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
MLFLOW_USER = "MLFLOW_AUTH_ADMIN_USERNAME"
MIN_PASSWORD = 12  # characters; MLflow takes no shorter one
# Only the server itself needs these.
SERVER_SECRETS = (PREFECT_AUTH, MLFLOW_PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY")
USERS = "mlflow-users.db"  # passwords are hashed there
AUTH_FILE = """[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Access:
    """Where servers listen, and the variables by which programs know whom to let in.

    Attributes:
        host: As the servers are told.
        own: The address of this machine by which our own programs ask.
        prefect_credentials: ``USER:PASSWORD``; None: nobody is asked for one.
        mlflow_credentials: The same of MLflow.
        prefect_server: Variables of the Prefect server alone.
        mlflow_server: Variables of the MLflow server alone.
        everyone: Variables of all programs.
    """

    host: str
    own: str
    prefect_credentials: str | None = field(default=None, repr=False)
    mlflow_credentials: str | None = field(default=None, repr=False)
    prefect_server: dict[str, str] = field(default_factory=dict, repr=False)
    mlflow_server: dict[str, str] = field(default_factory=dict, repr=False)
    everyone: dict[str, str] = field(default_factory=dict, repr=False)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    Raises:
        InputError: It is no address of a machine.
    """
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host}: is no address ({error}); try {LOOPBACK}") from None
    return all(ipaddress.ip_address(place[4][0]).is_loopback for place in found)


def what_is_missing(environment: Mapping[str, str]) -> list[str]:
    """What has to be set or installed before servers may listen to other machines."""
    missing = []
    if not all(environment.get(PREFECT_AUTH, "").partition(":")):
        missing.append(f"export {PREFECT_AUTH}=USER:PASSWORD")
    if len(environment.get(MLFLOW_PASSWORD, "")) < MIN_PASSWORD:
        missing.append(f"export {MLFLOW_PASSWORD}=PASSWORD (of {MIN_PASSWORD} characters or more)")
    if find_spec("flask_wtf") is None:
        missing.append("pip install Flask-WTF (MLflow's basic auth needs it)")
    return missing


def grant_access(host: str, ports: tuple[int, int], folder: Path, env: Mapping[str, str]) -> Access:
    """Decides where the servers listen and whom they let in.

    Args:
        host: Address that they are bound to.
        ports: Of Prefect and of MLflow.
        folder: MLflow keeps its users in a file there.
        env: Variables that say who may ask.

    Raises:
        InputError: Other machines could ask, and passwords are not set; or two disagree.
    """
    is_open = not is_loopback(host)
    _check_passwords(host, is_open, env)
    prefect, mlflow = env.get(PREFECT_AUTH) or None, env.get(MLFLOW_PASSWORD) or None
    prefect_server, mlflow_server, everyone = {}, {}, {}
    if prefect:
        prefect_server[PREFECT_AUTH] = everyone[PREFECT_CLIENT_AUTH] = prefect
    if mlflow:
        mlflow_server = _mlflow_users(folder, env)
        everyone |= {"MLFLOW_TRACKING_USERNAME": _user(env), "MLFLOW_TRACKING_PASSWORD": mlflow}
    if is_open:
        mlflow_server |= _mlflow_names(_names(host), ports[1], env)
    return Access(
        host=host,
        own={"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host),
        prefect_credentials=prefect,
        mlflow_credentials=f"{_user(env)}:{mlflow}" if mlflow else None,
        prefect_server=prefect_server,
        mlflow_server=mlflow_server,
        everyone=everyone,
    )


def _check_passwords(host: str, is_open: bool, env: Mapping[str, str]) -> None:
    """Passes if servers that shall ask for a password have one, and our workers know it."""
    missing = what_is_missing(env)
    if not is_open:  # then each of the two asks for one where its variable is set
        is_set = {PREFECT_AUTH: env.get(PREFECT_AUTH), MLFLOW_PASSWORD: env.get(MLFLOW_PASSWORD)}
        wanted = [name for name, value in is_set.items() if value]
        wanted += ["Flask-WTF"] if is_set[MLFLOW_PASSWORD] else []
        missing = [step for step in missing if any(name in step for name in wanted)]
    if missing:
        why = "other machines can reach it" if is_open else "a password is set"
        raise InputError(f"--host {host}: {why}, so these are needed: {'; '.join(missing)}")
    prefect = env.get(PREFECT_AUTH)
    if prefect and env.get(PREFECT_CLIENT_AUTH, prefect) != prefect:
        raise InputError(
            f"{PREFECT_CLIENT_AUTH} and {PREFECT_AUTH} differ, so our own workers would be "
            f"refused; unset {PREFECT_CLIENT_AUTH}"
        )


def in_url(host: str) -> str:
    """The address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _user(environment: Mapping[str, str]) -> str:
    return environment.get(MLFLOW_USER) or "admin"


def _mlflow_users(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Has MLflow keep its users, passwords hashed, beside our logs and not wherever it runs."""
    file = folder / "mlflow-auth.ini"
    place = str(folder / USERS).replace("%", "%%")
    file.write_text(AUTH_FILE.format(database=place), encoding="utf-8")
    (folder / USERS).touch(mode=0o600)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": environment.get("MLFLOW_AUTH_CONFIG_PATH", str(file)),
        MLFLOW_USER: _user(environment),
        MLFLOW_PASSWORD: environment[MLFLOW_PASSWORD],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": environment.get(
            "MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32)
        ),
    }


def _names(host: str) -> list[str]:
    """By which names others may call this machine."""
    names = {host, socket.gethostname(), socket.getfqdn(), LOOPBACK, "localhost"}
    if host in ("0.0.0.0", "::"):
        families = (socket.AF_INET, socket.AF_INET6)
        for addresses in psutil.net_if_addrs().values():
            names |= {a.address.partition("%")[0] for a in addresses if a.family in families}
    return sorted(names)


def _mlflow_names(names: list[str], port: int, env: Mapping[str, str]) -> dict[str, str]:
    """MLflow answers only who calls it by a name that it knows; what the user has set stays."""
    places = [f"{in_url(name)}:{port}" for name in names]
    known = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*map(in_url, names), *places]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{place}" for place in places),
    }
    return {name: env.get(name, value) for name, value in known.items()}

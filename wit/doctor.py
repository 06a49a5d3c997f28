"""Whether this machine is ready, and how to mend what is not."""

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from wit.config import Runtime
from wit.errors import InputError
from wit.files import size_text
from wit.findings import Finding
from wit.serving.prefect_settings import asked_prefect

MIN_FREE_BYTES = 2e9
TIMEOUT_SECONDS = 5.0
PROJECT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"  # by exact version, as in the Makefile: else pip brings gigabytes of CUDA
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
ADDRESS = "api|home|profile"  # what settings are called that may be about Prefect's
SILENT = "does not answer"
LOOPBACK = ("127.0.0.1", "localhost")


def diagnose(runtime: Runtime) -> list[Finding]:
    """Looks at versions, device, places of artifacts, Prefect, MLflow and ``wit up``."""
    from wit.serving.diagnosis import diagnose_up
    from wit.store_diagnosis import diagnose_store

    return [
        *_packages(),
        _device(runtime),
        _disk(runtime.artifact_root.resolve()),
        *diagnose_store(runtime),
        _prefect(),
        _mlflow(runtime),
        *diagnose_up(runtime),
    ]


def show_findings(console: Console, findings: list[Finding]) -> None:
    """Prints what was found, and below it what to do, each command on a line of its own."""
    table = Table("", "what", "found")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.is_well else "[red]no[/red]"
        table.add_row(mark, finding.subject, finding.found)
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(f"{finding.subject}: {finding.remedy}", soft_wrap=True, highlight=False)


def _packages() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= (3, 11)
    remedy = "" if is_new else "rm -r .venv; make demo PYTHON=python3.11"
    yield Finding("Python", is_new, python, remedy)
    try:
        wanted = [Requirement(text) for text in requires("wit") or []]
    except PackageNotFoundError:
        remedy = _pip("--no-deps", "--editable", str(PROJECT))
        yield Finding("wit", False, "is not installed", remedy)
        return
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    name = requirement.name
    try:
        found = version(name)
    except PackageNotFoundError:
        found, is_well = "missing", False
    else:
        is_well = requirement.specifier.contains(found, prereleases=True)
    if is_well:
        return Finding(name, True, found)
    wanted = TORCH if name == "torch" else f"'{name}{requirement.specifier}'"
    return Finding(name, False, f"{found}, but {requirement.specifier} is needed", _pip(wanted))


def _pip(*arguments: str) -> str:
    return " ".join([sys.executable, "-m", "pip", "install", *arguments])


def _device(runtime: Runtime) -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("device", False, f"torch cannot be imported: {error}", _pip(TORCH))
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("device", True, f"{name}, {size_text(free)} of {size_text(total)} free")
    found = f"CPU, {os.cpu_count()} cores"
    has_nvidia = Path("/proc/driver/nvidia/version").exists()
    if has_nvidia and runtime.device != "cpu":
        build = [TORCH, "--force-reinstall", "--index-url https://download.pytorch.org/whl/cu130"]
        return Finding("device", False, f"{found}; torch does not see the GPU", _pip(*build))
    if runtime.device == "cuda":
        remedy = _with_runtime("device=cpu")
        return Finding("device", False, f"{found}; the runtime asks for cuda", remedy)
    return Finding("device", True, found)


def _disk(root: Path) -> Finding:
    remedy = _with_runtime("artifact_root=DIR")
    folder = next(place for place in (root, *root.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell: quotas, mounts
            pass
    except OSError as error:
        return Finding(
            "artifact root", False, f"{root} cannot be written: {error.strerror}", remedy
        )
    free = shutil.disk_usage(folder).free
    found = f"{root}: {size_text(free)} free"
    is_well = free >= MIN_FREE_BYTES
    return Finding("artifact root", is_well, found, "" if is_well else remedy)


def _prefect() -> Finding:
    from wit.lineage.addresses import shown

    try:
        url = os.environ.get("PREFECT_API_URL") or asked_prefect("s.api.url or ''", ADDRESS)
    except InputError as error:
        remedy = _pip("--requirement", str(PROJECT / "requirements.txt"))
        return Finding("Prefect", False, str(error), remedy)
    if not url:
        return Finding("Prefect", True, "a server of its own for each wit run")
    problem = problem_with_prefect(url)
    if problem is None:
        return Finding("Prefect", True, shown(url))
    command = "" if "PREFECT_API_URL" in os.environ else f"{_beside_python('prefect')} config "
    remedy = f"{command}unset PREFECT_API_URL{_or_start(problem, url, '--prefect-port')}"
    hint = "" if "/api" in url else "; the address of an API ends in /api"
    return Finding("Prefect", False, f"{shown(url)} {problem}{hint}", remedy)


def problem_with_prefect(url: str) -> str | None:
    """What is wrong with the Prefect server whose API has this address; nothing if it is well."""
    return _problem_with(f"{url.rstrip('/')}/health", r"true")


def _mlflow(runtime: Runtime) -> Finding:
    from wit.lineage import tracking_uri
    from wit.lineage.addresses import shown

    is_ours = runtime.tracking_uri is not None
    remedy = _with_runtime("tracking_uri=null") if is_ours else "unset MLFLOW_TRACKING_URI"
    try:
        uri = tracking_uri(runtime)
        problem = _problem_with_store(uri)
    except InputError as error:
        return Finding("MLflow", False, str(error), remedy)
    if problem is None:
        return Finding("MLflow", True, shown(uri))
    found = f"{shown(uri)} {problem}"
    return Finding("MLflow", False, found, remedy + _or_start(problem, uri, "--mlflow-port"))


def _problem_with_store(uri: str) -> str | None:
    """What is wrong with a tracking store.

    Raises:
        InputError: Its file is no database of MLflow.
    """
    from wit.lineage.place import is_initialised, sqlite_file

    file = sqlite_file(uri)
    if file is not None:
        is_initialised(file)  # one that is not there yet is well
        return None
    address = urlsplit(uri)
    kind = address.scheme.partition("+")[0]
    if kind in ("http", "https"):
        return _problem_with(f"{uri.rstrip('/')}/version", r"\d+\.\d+")
    if kind not in DATABASE_PORTS:
        return None
    try:
        port = address.port or DATABASE_PORTS[kind]
        socket.create_connection((address.hostname or LOOPBACK[0], port), TIMEOUT_SECONDS).close()
    except OSError as error:
        return f"{SILENT}: {error.strerror or error}"
    return None


def _problem_with(url: str, expected: str) -> str | None:
    """What is wrong with a server whose answer should begin with the expression ``expected``."""
    from wit.lineage.addresses import shown

    try:
        with urlopen(shown(url), timeout=TIMEOUT_SECONDS) as answer:
            is_expected = re.match(expected, answer.read(100).decode(errors="replace"))
    except HTTPError as error:
        needs_key = error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        return None if needs_key else f"answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"{SILENT}: {getattr(error, 'reason', error)}"
    return None if is_expected else "is another program"


def _or_start(problem: str, url: str, option: str) -> str:
    """Another remedy, where the server would be on this machine."""
    address = urlsplit(url)
    if problem.startswith(SILENT) and address.hostname in LOOPBACK and address.port:
        return f" # or start it: {_beside_python('wit')} up {option} {address.port}"
    return ""


def _with_runtime(setting: str) -> str:
    return f"{_beside_python('wit')} run STUDY.yaml --set-runtime {setting}"


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)

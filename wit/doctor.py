"""Whether this machine is ready, and how to mend what is not."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from wit.config import Runtime

MIN_FREE_BYTES = 2e9


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    is_well: bool
    found: str
    remedy: str = ""


def diagnose(runtime: Runtime) -> list[Finding]:
    """Looks at versions, device, disk, Prefect and MLflow."""
    return [
        *_packages(),
        _device(runtime),
        _disk(runtime),
        _prefect(),
        _mlflow(runtime),
    ]


def show_findings(console: Console, findings: list[Finding]) -> None:
    """Prints what was found, with the remedy where something is wrong."""
    table = Table("", "what", "found", "remedy")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.is_well else "[red]no[/red]"
        table.add_row(mark, finding.subject, finding.found, finding.remedy)
    console.print(table)


def _packages() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), python, "use Python 3.11 or newer")
    try:
        wanted = [Requirement(text) for text in requires("wit") or []]
    except PackageNotFoundError:
        yield Finding("wit", False, "is not installed", "pip install -e .")
        return
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        # A build tag such as +cpu is no other version.
        is_well = found != "missing" and requirement.specifier.contains(found.partition("+")[0])
        remedy = "" if is_well else f"pip install '{requirement}'"
        yield Finding(requirement.name, is_well, found, remedy)


def _device(runtime: Runtime) -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("device", True, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    has_nvidia = Path("/proc/driver/nvidia/version").exists()
    is_well = not has_nvidia and runtime.device != "cuda"
    remedy = "install a CUDA build of torch: README, On a GPU" if has_nvidia else "device: cpu"
    cores = os.cpu_count()
    return Finding("device", is_well, f"CPU, {cores} cores", "" if is_well else remedy)


def _disk(runtime: Runtime) -> Finding:
    folder = runtime.artifact_root.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("artifact root", False, f"{folder}: not writable", "set artifact_root")
    is_well = free > MIN_FREE_BYTES
    found = f"{runtime.artifact_root}: {free / 1e9:.0f} GB free"
    return Finding("artifact root", is_well, found, "" if is_well else "free some space")


def _prefect() -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        return Finding("Prefect", True, "a server of its own for each wit run")
    is_well = _answers(f"{url.rstrip('/')}/health")
    remedy = "" if is_well else "start it (wit up), or unset PREFECT_API_URL"
    return Finding("Prefect", is_well, f"PREFECT_API_URL={url}", remedy)


def _mlflow(runtime: Runtime) -> Finding:
    from wit.lineage import tracking_uri

    uri = tracking_uri(runtime)
    if not uri.startswith("http"):
        return Finding("MLflow", True, uri.partition("://")[0])
    is_well = _answers(f"{uri.rstrip('/')}/health")
    remedy = "" if is_well else "start it (wit up), or unset MLFLOW_TRACKING_URI"
    return Finding("MLflow", is_well, uri, remedy)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return response.status == 200
    except (URLError, OSError, ValueError):
        return False

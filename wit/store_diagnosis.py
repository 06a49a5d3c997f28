"""What ``wit doctor`` says of the artifact store."""

import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

from wit.artifact_store import check_store
from wit.config import Runtime
from wit.errors import ConfigError, InputError, StoreAwayError
from wit.findings import Finding
from wit.lineage.addresses import shown
from wit.store_url import FOLDERS

SUBJECT = "artifact store"
# By protocol: the package that fsspec asks for, and the variables by which it knows who asks.
CLIENTS = {
    "s3": ("s3fs", "export AWS_ACCESS_KEY_ID=KEY AWS_SECRET_ACCESS_KEY=SECRET  # or AWS_PROFILE"),
    "gs": ("gcsfs", "export GOOGLE_APPLICATION_CREDENTIALS=FILE"),
    "abfs": ("adlfs", "export AZURE_STORAGE_CONNECTION_STRING=STRING"),
}
RELEASED_WITH_FSSPEC = ("s3fs", "gcsfs")  # and of no use with another version of it


def diagnose_store(runtime: Runtime) -> Iterator[Finding]:
    """Whether it can be reached and written; leaves nothing there."""
    url = runtime.artifact_store
    if url is None:
        yield Finding(SUBJECT, True, "none: artifacts stay on this machine")
        return
    protocol = url.partition("://")[0]
    package, credentials = CLIENTS.get(protocol, ("", ""))
    try:
        check_store(runtime)
    except InputError as error:
        if package and find_spec(package) is None:
            remedy = _pip(package)
        elif isinstance(error, ConfigError):
            remedy = "wit run STUDY.yaml --set-runtime artifact_store=URL"
        elif isinstance(error, StoreAwayError):
            remedy = "wit doctor  # again, once it answers; else --set-runtime artifact_store=null"
        elif protocol in FOLDERS:
            remedy = f"mkdir {url.partition('://')[2]}  # or mount what should be there"
        else:
            remedy = f"{credentials}; the bucket must be there"
        yield Finding(SUBJECT, False, str(error), remedy)
        return
    yield Finding(SUBJECT, True, f"{shown(url)} answers, and can be written")


def _pip(package: str) -> str:
    exact = f"=={version('fsspec')}" if package in RELEASED_WITH_FSSPEC else ""
    return f"{sys.executable} -m pip install '{package}{exact}'"

"""What may stand in a runtime as URL of the artifact store; nothing here asks anybody."""

from pathlib import Path
from urllib.parse import urlsplit

from wit.errors import ConfigError
from wit.lineage.addresses import shown

FORM = "write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, abfs://CONTAINER/FOLDER or file:///FOLDER"
FOLDERS = ("file", "local")  # protocols of folders that machines share
WITH_ACCOUNT = ("abfs", "abfss")  # container@account: no secret


def check_url(url: str) -> str:
    """The protocol of a URL that can be one of a store.

    Raises:
        ConfigError: It cannot, or has a secret in it, which is not shown.
    """
    said = f"runtime artifact_store = {shown(url)}"
    protocol, _, rest = url.partition("://")
    if not rest.strip("/") or "::" in url:
        raise ConfigError(f"{said}: is no URL of a store; {FORM}")
    if protocol == "memory":
        raise ConfigError(f"{said}: memory is gone with its process; {FORM}")
    if protocol in FOLDERS:
        if not rest.startswith("/"):
            raise ConfigError(f"{said}: write file:/// and an absolute path")
        return protocol
    host = rest.partition("/")[0]
    has_secret = "@" in host and (protocol not in WITH_ACCOUNT or ":" in host)
    if has_secret or "?" in rest or not _has_port(url):
        raise ConfigError(
            f"{said}: has a user, password, key or query in it. Credentials are taken from the "
            "environment alone, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"AWS_PROFILE; {FORM}"
        )
    return protocol


def check_apart(url: str, root: Path) -> None:
    """Refuses a store in the artifact root, or around it: their folders have the same names.

    Raises:
        ConfigError: Names both.
    """
    protocol, _, rest = url.partition("://")
    if protocol not in FOLDERS:
        return
    folder, root = Path(rest).resolve(), root.resolve()
    if folder.is_relative_to(root) or root.is_relative_to(folder):
        raise ConfigError(
            f"runtime artifact_store = {url}: lies in artifact_root = {root}, or around it; choose "
            "two folders apart: the root is this machine's, the store is for all"
        )


def _has_port(url: str) -> bool:
    """Whether what follows a colon, if there is one, is a port."""
    try:
        address = urlsplit(url)
        return ":" not in address.netloc or (address.port is not None and "@" not in address.path)
    except ValueError:
        return False

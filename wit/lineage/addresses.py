"""Addresses as they may be shown: in a terminal, a report, a log; nothing here imports mlflow."""

import re
from urllib.parse import urlsplit

SECRET = re.compile(r"(?i)(.*[_-]|api|ssl)?(password|passwd|pwd|token|secret|key)")  # of a query


def shown(uri: str) -> str:
    """The address without user, password and the secret keys of its query.

    A file is shown as it is. Of an address that cannot be read, all before the last ``@`` goes:
    a password with a ``/`` or ``#`` in it makes one.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme in ("sqlite", "file"):
        return uri
    head, question, query = rest.partition("?")
    if not _is_read(uri):
        rest = rest.rpartition("@")[2]
        head, question, query = rest.partition("?")
    elif scheme.startswith("http"):  # its path may have an @
        netloc = urlsplit(uri).netloc
        head = head.removeprefix(f"{netloc.rpartition('@')[0]}@")
    else:
        head = head.rpartition("@")[2]
    values, hash_mark, fragment = query.partition("#")
    kept = [pair for pair in values.split("&") if not SECRET.fullmatch(pair.partition("=")[0])]
    return (
        f"{scheme}{mark}{head}{question if any(kept) else ''}{'&'.join(kept)}{hash_mark}{fragment}"
    )


def _is_read(uri: str) -> bool:
    try:
        address = urlsplit(uri)
        return address.port is None or address.port >= 0
    except ValueError:
        return False

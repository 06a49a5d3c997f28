"""Files below an fsspec URL: an object store, or a folder that machines share.

A file is there whole or not at all. What a store says, in the words of many libraries, becomes one
error with the URL and the remedy. Credentials come from the environment alone.
"""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from wit.errors import ArtifactError, ConfigError, StoreAwayError, WitError
from wit.store_url import FOLDERS, FORM, check_url

CHUNK_BYTES = 16 * 2**20  # of one request; several are under way, and each is held in memory
MAX_SAID = 300  # characters of what a library says
SECRET = re.compile("SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING")  # in names of variables
MIN_SECRET = 6  # characters; a shorter value may be any word
PROBE = ".writable"  # name of a file that is written to see whether it can be
# Of what servers and networks say while they are overloaded, restarted or away.
PASSING = (errno.EBUSY, errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO), errno.ESTALE)
PASSING_NAMES = ("Connect", "Timeout", "HTTPClient", "Payload", "Disconnected")


class RemoteFiles:
    """Files by names such as ``sft/0123456789ab.record.json``, relative to a URL."""

    REMEDY = (
        "Check the URL, and the credentials in the environment and what they allow: to list, read, "
        "write and delete there"
    )

    def __init__(self, url: str) -> None:
        """Asks nobody yet.

        Raises:
            ConfigError: The URL is wrong, or a package is missing that it needs.
        """
        protocol = check_url(url)
        self.url = url.rstrip("/")  # without secrets, or it would have been refused
        try:
            self._files = _file_system(protocol)
        except (ImportError, ValueError) as error:  # no package for it, or nobody knows it
            said = f"runtime artifact_store = {url}: {_said(error)}"
            raise ConfigError(f"{said}; {FORM}") from None
        self._folder = self._files._strip_protocol(self.url)

    def place(self, name: str) -> str:
        """URL of a file, for people."""
        return f"{self.url}/{name}" if name else self.url

    def names(self, folder: str = "") -> list[str]:
        """What is directly in a folder, from one listing; nothing if it is not there.

        Raises:
            ArtifactError: The store refuses, or is away.
        """
        try:
            with self._translated(FileNotFoundError):
                found = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError as error:
            if error.__cause__ is not None:  # the server knows no such bucket
                raise self._no_such_place(error) from None
            return []
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file in a folder and those in it, by name relative to the folder."""
        path = self._path(folder)
        with suppress(FileNotFoundError), self._translated(FileNotFoundError):
            found: Any = self._files.find(path, detail=True)
            return {name.removeprefix(f"{path}/"): at["size"] for name, at in found.items()}
        return {}

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._translated():
            return bool(self._files.exists(self._path(name)))

    def read(self, name: str) -> bytes | None:
        """A small file; nothing if it is not there."""
        with suppress(FileNotFoundError), self._translated(FileNotFoundError):
            return self._bytes(name)
        return None

    def chunks(self, name: str, num_bytes: int) -> Iterator[bytes]:
        """A file in pieces.

        Args:
            name: Of the file.
            num_bytes: That it should have; of a longer one only one byte more is read.

        Raises:
            FileNotFoundError: It is not there.
            ArtifactError: The store refuses, or is away.
        """
        if num_bytes < CHUNK_BYTES:
            with self._translated(FileNotFoundError):
                whole = self._bytes(name)
            yield whole
            return
        for start in range(0, num_bytes, CHUNK_BYTES):
            end = start + CHUNK_BYTES
            with self._translated(FileNotFoundError):
                part = self._part(name, start, end if end < num_bytes else num_bytes + 1)
            yield part
            if len(part) < end - start:  # the last one, or it is shorter than it should be
                return

    def put(self, file: Path, name: str) -> None:
        """Uploads a file; one of that name is replaced."""
        with self._translated():
            self._put(file, name)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small file, unless there is one of that name: then it says False."""
        with self._translated():
            return self._create(name, content)

    def delete(self, folder: str) -> None:
        """Deletes a folder or a file, if it is there."""
        with suppress(FileNotFoundError), self._translated(FileNotFoundError):
            self._files.rm(self._path(folder), recursive=True)

    def check_writable(self) -> None:
        """Writes a small file, and deletes it.

        Raises:
            ArtifactError: There is no such place, or it cannot be written.
        """
        try:
            with self._translated(FileNotFoundError):
                self._files.pipe_file(self._path(PROBE), b"")
                with suppress(PermissionError):  # where nothing may be deleted, one probe stays
                    self._files.rm_file(self._path(PROBE))
        except FileNotFoundError as error:
            raise self._no_such_place(error) from None

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}" if name else self._folder

    def _bytes(self, name: str, **part: int) -> bytes:
        return bytes(self._files.cat_file(self._path(name), **part))

    def _part(self, name: str, start: int, end: int) -> bytes:
        try:
            return self._bytes(name, start=start, end=end)
        except OSError as error:
            if start and error.errno == errno.EINVAL:  # it ends where the part would begin
                return b""
            raise

    def _put(self, file: Path, name: str) -> None:
        self._files.put_file(str(file), self._path(name))

    def _create(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        try:
            self._files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if self._files.exists(path):  # said in other words
                return False
            if error.errno != errno.ENOSYS:
                raise
            self._files.pipe_file(path, content)  # a server that knows no condition
        return True

    @contextmanager
    def _translated(self, *passing: type[Exception]) -> Iterator[None]:
        """Has what a library raises say what is wrong; ``passing`` is none of that."""
        try:
            yield
        except (WitError, *passing):
            raise
        except Exception as error:
            said = f"artifact store {self.url}"
            if _may_pass(error):
                raise StoreAwayError(f"{said} does not answer: {_said(error)}") from None
            raise ArtifactError(f"{said} cannot be used: {_said(error)}. {self.REMEDY}") from None

    def _no_such_place(self, error: Exception) -> ArtifactError:
        return ArtifactError(
            f"artifact store {self.url} is not there: {_said(error)}. Make the bucket or "
            "folder first, or check the URL"
        )


class SharedFolder(RemoteFiles):
    """A folder on a file system that machines share; only there is a half-written file seen."""

    REMEDY = "Check the URL, and who may read and write in that folder"

    def names(self, folder: str = "") -> list[str]:
        """As of any store."""
        self._check_mounted()
        return super().names(folder)

    def exists(self, name: str) -> bool:
        """As of any store."""
        self._check_mounted()
        return super().exists(name)

    def read(self, name: str) -> bytes | None:
        """As of any store."""
        self._check_mounted()
        return super().read(name)

    def check_writable(self) -> None:
        """As of any store."""
        self._check_mounted()
        super().check_writable()

    def _check_mounted(self) -> None:
        """Else a file system that is not mounted would look like an empty store."""
        if not Path(self._folder).is_dir():
            raise self._no_such_place(FileNotFoundError("no such folder"))

    def _put(self, file: Path, name: str) -> None:
        target, part = self._aside(name, socket.gethostname())  # the next attempt takes its place
        shutil.copyfile(file, part)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(target)

    def _create(self, name: str, content: bytes) -> bool:
        target, part = self._aside(name, uuid4().hex)
        with part.open("wb") as stream:
            stream.write(content)
            os.fsync(stream.fileno())
        try:
            os.link(part, target)  # in one step, unless there is one
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if target.exists():
                return False
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return True

    def _aside(self, name: str, writer: str) -> tuple[Path, Path]:
        """A file, and the name that it has while it is written."""
        target = Path(self._path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target, target.with_name(f".{target.name}.{writer}.part")


def files_at(url: str) -> RemoteFiles:
    """The files at a URL; asks nobody yet.

    Raises:
        ConfigError: The URL is wrong, or a package is missing that it needs.
    """
    return (SharedFolder if url.partition("://")[0] in FOLDERS else RemoteFiles)(url)


@cache  # a client takes a while to start, and serves all threads
def _file_system(protocol: str) -> Any:
    import fsspec

    # Other machines write there too: what was listed once is no answer later.
    return fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)


def _said(error: Exception) -> str:
    """What an error says, on one line and without secrets; some begin on the second."""
    said = re.sub(r"//[^/@\s]+@", "//***@", " ".join(str(error).split()))
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= MIN_SECRET:
            said = said.replace(value, "***")
    return said[:MAX_SAID].rstrip(".:") or type(error).__name__


def _may_pass(error: Exception) -> bool:
    if isinstance(error, PermissionError):
        return False
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    names = [kind.__name__ for kind in type(error).__mro__]
    return any(part in name for part in PASSING_NAMES for name in names)

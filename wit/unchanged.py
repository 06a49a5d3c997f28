"""What was checked in this process need not be read again as long as no file of it has changed."""

import time
from collections.abc import Callable
from pathlib import Path

# A file that was written less than this before it was looked at could be written again at what file
# systems take for the same time; FAT's steps are the coarsest.
SETTLED_NS = 2_000_000_000
_Look = tuple[tuple[str, int, int, int, int], ...]  # of each file: name, size, two times, inode
_passed: dict[Path, _Look] = {}  # folders, as they were when they passed


def check_once(folder: Path, check: Callable[[Path], None]) -> None:
    """Checks a folder, unless it has passed in this process and is as it was then.

    Many stages of one process read the same model, and each checks it before: to hash gigabytes
    takes longer than some of these stages. What counts as a change: a file more or less, another
    size, time or inode of one.

    Args:
        folder: Whose files are looked at.
        check: Reads them, and raises if something is wrong; always the same one for a folder.
    """
    now = time.time_ns()
    seen = _look(folder)
    if _passed.get(folder) == seen:
        return
    check(folder)
    if all(modified < now - SETTLED_NS for _, _, modified, _, _ in seen):
        _passed[folder] = seen


def _look(folder: Path) -> _Look:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    found = ((str(file.relative_to(folder)), file.stat()) for file in files)
    # The second time cannot be set by whoever overwrites a file and restores the first.
    return tuple(
        (name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for name, stat in found
    )

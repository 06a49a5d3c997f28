"""Which benchmarks there are, and the files that decide what each of them asks.

A name is looked up as: the path given with it, then ``wit/evaluation/benchmarks/NAME.yaml``, then
lm-eval's own tasks. A file of ours may include one of lm-eval's as ``include: lm_eval/FILE``.
Imports nothing heavy: ``wit plan`` fingerprints benchmarks with this.
"""

import difflib
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from wit.errors import ConfigError
from wit.evaluation.benchmark_files import (
    local_data_files,
    local_folder,
    read_benchmark,
    tasks_of_lm_eval,
)
from wit.evaluation.checkers import checkers_of
from wit.evaluation.deciding import deciding_files
from wit.evaluation.local_rows import LocalRows, find_local_rows
from wit.files import digest_of_files, sha256_of

SHIPPED = Path(__file__).parent / "benchmarks"
COMMIT = re.compile(r"[0-9a-f]{40}")


class ResolvedBenchmark(NamedTuple):
    """A benchmark that was found."""

    name: str
    yaml_path: Path
    files: list[Path]  # all that decide what it asks and how it is scored
    rows: LocalRows | None = None  # asked instead of the rows that its YAML names
    revision: str | None = None  # commit of the hub's repository that has its rows

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over its files and the versions of what scores it.

        Rows that stand in for its own count by content and split, wherever they lie.
        """
        instead = list(self.rows.files) if self.rows else []
        files = [file for file in self.files if file not in instead]
        extra = ["lm_eval " + version("lm_eval"), *checkers_of(self.files).versions()]
        extra += self.rows.identity() if self.rows else []
        extra += [f"revision {self.revision}"] if self.revision else []
        # Names do not tell apart what two members call alike; the order of their folders does.
        names = Counter(file.name for file in files)
        extra += [sha256_of(file) for file in sorted(files) if names[file.name] > 1]
        return digest_of_files(files, self.name, *extra)

    @property
    def is_pinned(self) -> bool:
        """Whether its rows cannot change unnoticed: files here, or a named commit on the hub.

        A group counts as pinned by ``rows`` or ``revision`` only: its members may be anywhere.
        """
        if self.rows or self.revision:
            return True
        config = read_benchmark(self.yaml_path)
        if "group" in config:
            return False
        if local_data_files(self.yaml_path) is not None or local_folder(config, self.yaml_path):
            return True
        return bool(COMMIT.fullmatch(str((config.get("dataset_kwargs") or {}).get("revision"))))

    @property
    def is_chat(self) -> bool:
        """Whether the chat template is to be applied; ``metadata.wit.chat: false`` says no."""
        return self._own_settings.get("chat", True) is not False

    @property
    def main_metric(self) -> str | None:
        """The metric that stands for it, from ``metadata.wit.main``; None: lm-eval's first."""
        return self._own_settings.get("main")

    @property
    def _own_settings(self) -> dict[str, Any]:
        metadata = read_benchmark(self.yaml_path).get("metadata")
        ours = metadata.get("wit") if isinstance(metadata, dict) else None
        return ours if isinstance(ours, dict) else {}


def resolve_benchmark(
    name: str,
    path: str | Path | None = None,
    data: str | Path | None = None,
    revision: str | None = None,
) -> ResolvedBenchmark:
    """The benchmark of that name.

    Args:
        name: Its name in the study.
        path: Its lm-eval YAML; None looks the name up.
        data: Rows to ask instead of its own, in the same columns: a file of the split that is
            scored, or a folder of ``SPLIT.jsonl`` or ``SUBSET/SPLIT.jsonl``; also .json, .parquet,
            .csv and .arrow.
        revision: Commit of the hub's repository that has its rows, 40 hex digits.

    Raises:
        ConfigError: There is none, a file that it names is missing or is not YAML, or what checks
            its responses is not installed.
    """
    if data is not None and revision is not None:
        raise ConfigError(
            f"benchmark {name}: 'revision' is of rows on the hub; those of 'data' count by content"
        )
    yaml_path = _yaml_of(name, path).resolve()
    found = ResolvedBenchmark(name, yaml_path, deciding_files(yaml_path))
    checkers_of(found.files).check(name)
    if data is None:
        return found._replace(revision=revision)
    config = read_benchmark(found.yaml_path)
    rows = find_local_rows(name, Path(data), config)
    return found._replace(rows=rows, files=sorted({*found.files, *rows.files}))


def _yaml_of(name: str, path: str | Path | None) -> Path:
    if path is not None:
        return Path(path)
    if (SHIPPED / f"{name}.yaml").is_file():
        return SHIPPED / f"{name}.yaml"
    found = _in_lm_eval(name)
    if name not in found:
        raise ConfigError(_unknown(name, set(found)))
    return found[name]


def _in_lm_eval(name: str) -> dict[str, Path]:
    """lm-eval's own tasks and groups; at once when the file is named like the task.

    Its ``TaskManager`` parses 14 thousand files for this and takes ten seconds; a search for the
    one line that matters takes half a second.
    """
    root = tasks_of_lm_eval()
    named = re.compile(
        rb"^[\"']?(?:task|group)[\"']?:[ \t]*[\"']?([\w.\-]+)[\"']?[ \t\r]*$", re.MULTILINE
    )
    found: dict[str, Path] = {}
    for file in (*root.rglob(f"{name}.yaml"), *root.rglob("*.yaml")):
        for match in named.findall(file.read_bytes()):
            found.setdefault(match.decode(), file)
        if name in found:
            break
    return found


def _unknown(name: str, of_lm_eval: set[str]) -> str:
    shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    close = difflib.get_close_matches(name, [*shipped, *sorted(of_lm_eval)], n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return (
        f"benchmark {name!r} is unknown.{hint} Known are {', '.join(shipped) or 'none of ours'}, "
        f"{len(of_lm_eval)} tasks of lm-eval, and any lm-eval YAML file given by 'path'."
    )

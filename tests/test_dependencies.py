"""What the code imports is what it says it needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version

from packaging.requirements import Requirement
from samples import ROOT

OURS = {"flows", "tasks", "wit"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ALWAYS = [Requirement(text) for text in PROJECT["dependencies"]]
SOMETIMES = [
    Requirement(text)
    for extra, texts in PROJECT["optional-dependencies"].items()
    if extra != "test"
    for text in texts
]
OPTIONAL = {"asyncpg", "bitsandbytes"}  # imported where a feature is asked for that has an extra


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Top-level names of all that our packages import, inside of functions too."""
    found: set[str] = set()
    for file in (file for package in OURS for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - OURS - sys.stdlib_module_names


def test_every_import_is_of_a_dependency_that_is_named() -> None:
    always = {plain(needed.name) for needed in ALWAYS}
    sometimes = {plain(needed.name) for needed in SOMETIMES}
    distributions = packages_distributions()
    for module in imported():
        named = {plain(name) for name in distributions.get(module, [module])}
        wanted = sometimes if module in OPTIONAL else always
        assert named & wanted, f"{module} is imported, and pyproject.toml does not name {named}"


def test_every_pinned_version_is_one_that_is_allowed() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.+]+", line))
    exact = {plain(name): number for name, number in pinned.items()}
    for needed in ALWAYS:
        name = plain(needed.name)
        number = exact.get(name) or version(name)
        assert needed.specifier.contains(number), f"{needed}: {number} is what is installed"

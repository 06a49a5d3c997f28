"""All benchmarks in one: which there are, and that the command line has each."""

import pytest
from commands import wit

from wit.bench.every import ALL, every
from wit.errors import ConfigError


def test_one_of_them_runs_by_its_name() -> None:
    begun: list[str] = []
    [result] = every(["rays"], begun.append)
    assert begun == [result.name] == ["rays"]


def test_a_name_that_is_none_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"--only speed: no benchmark; allowed: sft, "):
        next(every(["rays", "speed"]))


def test_each_has_a_command_of_its_own() -> None:
    said = wit("bench", "--help").stdout
    assert [name for name in ALL if f" {name.removesuffix('-large')} " not in said] == []
    assert wit("bench", "all", "--only", "speed").returncode == 2

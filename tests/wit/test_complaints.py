"""What every complaint about a YAML file or an override says, and where it points."""

from pathlib import Path

import pytest
from study_file import STUDY, line_of

from wit.errors import ConfigError
from wit.loading import load_study

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def complaint(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(file, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def rewrite(file: Path, old: str, new: str) -> None:
    assert STUDY.count(old) == 1
    file.write_text(STUDY.replace(old, new))


def test_an_unknown_key_is_named_with_its_line_what_is_allowed_and_the_nearest(file: Path) -> None:
    rewrite(file, "  learning_rate: 1e-3", "  num_epochs: 1\n  lerning_rate: 1e-3")
    said = complaint(file)
    assert said.startswith(f"{file}:{line_of(file, 'lerning_rate')}: sft.lerning_rate: unknown key")
    assert "num_epochs" in said
    assert "Did you mean 'learning_rate'?" in said


def test_an_unknown_key_at_the_top_and_in_a_list(file: Path) -> None:
    rewrite(file, "    role: select", "    role: select\n    fewshot: 1")
    file.write_text(file.read_text() + "weigths: []\n")
    said = complaint(file).splitlines()
    assert any(
        f":{line_of(file, 'fewshot')}: benchmarks.0.fewshot: unknown" in line for line in said
    )
    assert any(f":{line_of(file, 'weigths')}: weigths: unknown" in line for line in said)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("prompt: 0, response: 1", "prompt: 0, response: 0", "response: 0", "both 0"),
        ("prompt: 0.2", "prompt: -0.2", "-0.2", "greater than or equal to 0"),
        ("prompt: 0.2", "prompt: .nan", ".nan", "finite"),
        ("prompt: 0.2", "prompt: .inf", ".inf", "finite"),
        ("prompt: 0.2", "prompt: a lot", "a lot", "number"),
        ("seeds: [0, 1]", "seeds: [0, -1]", "-1]", "greater than or equal to 0"),
        ("seeds: [0, 1]", "seeds: []", "seeds: []", "at least 1"),
        ("seeds: [0, 1]", "seeds: 3", "seeds: 3", "list"),
        ("seeds: [0, 1]", "seeds: [3, 3]", "[3, 3]", "2 times"),
        ("name: small", "name: ../small", "../small", "letters"),
        ("learning_rate: 1e-3", "learning_rate: 0", "learning_rate: 0", "greater than 0"),
        ("learning_rate: 1e-3", "num_epochs: 1.5", "1.5", "integer"),
        ("learning_rate: 1e-3", "schedule: cosin", "cosin", "'cosine', 'linear' or 'constant'"),
        ("role: select", "role: report", "benchmarks:", "select"),
        ("{name: unseen, role: report}", "{name: seen, role: report}", "benchmarks:", "2 times"),
        ("max_tokens: 64", "max_tokens: 0", "max_tokens: 0", "greater than 0"),
        ("max_tokens: 64", "held_out_fraction: 1", "held_out", "less than 1"),
        ("max_tokens: 64", "near_duplicates: 0.3", "0.3", "greater than or equal to 0.5"),
        ("max_tokens: 64", "near_duplicates: true", "true", "valid number"),
        ("path: models/base", "repo: org/name", "base:", "revision"),
        (
            "path: models/base",
            "repo: org/name\n  revision: main",
            "revision: main",
            "40 hex digits",
        ),
        ("path: models/base", f"revision: {REVISION}", "base:", "'path'"),
        ("path: models/base", f"path: a\n  revision: {REVISION}", "base:", "content"),
        ("path: models/base", f"path: a\n  repo: b\n  revision: {REVISION}", "base:", "either"),
        ("  - {prompt: 0, response: 1}", "  - instruction-tunin", "tunin", "instruction-tuning"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_allowed(
    file: Path, old: str, new: str, line: str, says: str
) -> None:
    rewrite(file, old, new)
    said = complaint(file)
    assert said.startswith(f"{file}:{line_of(file, line)}: ")
    assert says in said
    assert "\n" not in said


def test_nested_places_in_lists_have_their_own_lines(file: Path) -> None:
    rewrite(file, "    response: 1\n", "    response: x\n")
    place = f"{file}:{line_of(file, 'response: x')}: weights.1.response = 'x'"
    assert complaint(file).startswith(place)


def test_a_missing_key_is_named_with_the_place_of_its_holder(file: Path) -> None:
    rewrite(file, "    role: select\n", "")
    said = complaint(file)
    assert said.startswith(f"{file}:{line_of(file, 'name: seen')}: benchmarks.0.role is missing")
    rewrite(file, "name: small\n", "")
    assert complaint(file).startswith(f"{file}: name is missing")


def test_all_errors_are_reported_at_once(file: Path) -> None:
    text = STUDY.replace("learning_rate: 1e-3", "learning_rat: 1e-3").replace("0.2", "-1")
    file.write_text(text.replace("seeds: [0, 1]", "seeds: [x]"))
    said = complaint(file).splitlines()
    assert sorted(line.split(": ")[1].split(" = ")[0] for line in said) == [
        "seeds.0",
        "sft.learning_rat",
        "weights.1.prompt",
    ]


def test_a_list_is_not_called_too_short_because_what_is_in_it_was_refused(file: Path) -> None:
    only = "  - {prompt: 0, response: 1, sources: {a: {prompt: 1}}}"
    rewrite(file, "  - {prompt: 0, response: 1}\n  - prompt: 0.2\n    response: 1", only)
    said = complaint(file)
    assert said.startswith(
        f"{file}:{line_of(file, 'sources')}: weights.0.sources.a.response is miss"
    )
    assert "\n" not in said


def test_a_key_that_stands_there_twice_is_refused_with_the_second_line(file: Path) -> None:
    file.write_text(STUDY + "seeds: [7]\n")
    assert complaint(file) == (
        f"{file}:{len(STUDY.splitlines()) + 1}: seeds stands there twice; keep one"
    )
    rewrite(file, "  learning_rate: 1e-3", "  learning_rate: 1e-3\n  learning_rate: 1e-4")
    assert "sft.learning_rate stands there twice" in complaint(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: [", ":1: this is not YAML"),
        (b"name: small\n\tbase: x\n", ":2: this is not YAML"),
        (b"name: !python/object:os.system x", ":1: this is not YAML"),
        (b"a: 1\n---\nb: 2\n", "this is not YAML"),
        (b"name: \x00", "this is not YAML"),
        (b"name: 2024-13-45", "this is not YAML"),
        (b"? [a, b]\n: c", "this is not YAML"),
        (b"a: &x {b: *x}", "this is not YAML"),
        (b"", "must hold a mapping"),
        (b"- name: small", "must hold a mapping"),
        (b"just text", "must hold a mapping"),
        (b"\xff\xfe", "cannot be read"),
        (b"1: 2\n", "Keys should be strings"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    said = complaint(file)
    assert said.startswith(str(file))
    assert says in said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "nope.yaml") == (
        f"{tmp_path}/nope.yaml: cannot be read: No such file or directory"
    )
    assert "cannot be read" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sft.num_epochs", "write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        ("sft.num_epochs=[", "is not a YAML value"),
        ("sft.num_epochs=2024-13-45", "is not a YAML value"),
        ("sft.epochs=3", "sft.epochs: unknown key"),
        ("nope.a.b=3", "nope: unknown key"),
        ("weights.9.prompt=1", "there is no 9"),
        ("weights.prompt=1", "there is no 'prompt'"),
        ("seeds.7=1", "there is no 7"),
        ("name.first=x", "there is no 'first'"),
        ("weights.1.prompt=-3", "weights.1.prompt = -3: "),
        ("sft={learning_rate: -1}", "sft.learning_rate = -1: "),
        ("weights=instruction-tuning", "instruction-modelling"),
        ("weights={prompt: [0], response: [0]}", "both 0 in every pair of this grid"),
        ("weights={prompt: [0]}", "weights.0.response is missing"),
        ("weights={prompt: [], response: [1]}", "at least 1"),
    ],
)
def test_a_wrong_override_is_quoted(file: Path, override: str, says: str) -> None:
    said = complaint(file, override)
    assert f"--set {override}" in said
    assert says in said
    assert str(file) not in said  # it is not the file's fault, whatever stands there


def test_a_long_wrong_value_is_cut(file: Path) -> None:
    rewrite(file, "name: small", f"name: {'x' * 5000}")
    assert len(complaint(file)) < 500

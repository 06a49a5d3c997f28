"""What a person reads who gets an alignment wrong."""

import re
from pathlib import Path

import pytest
import yaml
from planned_study import inputs_in, study_in

from wit.errors import ConfigError
from wit.loading import load_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inputs_in(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("dpo.objective=dop", r"dpo\.objective = 'dop': .*'orpo'\. Did you mean 'dpo'\?$"),
        ("dpo.loss_weights.ipoo=1", r"dpo\.loss_weights\.ipoo = 'ipoo': .* Did you mean 'ipo'\?$"),
        ("alignments.a.loss_weights={ipo: 1}", r"alignments\.a: loss_weights has no weight of "),
        ("dpo.on_policy={scorer: judge}", r"^[^{]*'dpo\.on_policy\.scorer: judge' needs 'judge'"),
    ],
)
def test_a_mistake_is_one_line_without_what_else_was_given(
    folder: Path, setting: str, said: str
) -> None:
    given = study_in(folder) | {"judged": [], "judge": None}
    (folder / "mistaken.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError) as caught:
        load_study(folder / "mistaken.yaml", [setting])
    [line] = str(caught.value).splitlines()
    assert re.search(said, line), line


def test_alignments_are_not_called_alike_where_what_they_share_is_wrong(folder: Path) -> None:
    wrong = {"learning_rate": -1, "num_epochs": 3}
    given = study_in(folder) | {"dpo": wrong, "alignments": {"a": {}, "b": {"num_epochs": 2}}}
    (folder / "mistaken.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError) as caught:
        load_study(folder / "mistaken.yaml")
    [line] = str(caught.value).splitlines()
    assert "dpo.learning_rate = -1" in line

"""The chosen model in MLflow's registry: who is champion, with what evidence, all or nothing."""

import json
import shutil
from pathlib import Path

import pytest
from contest import SELECT, Contest, hold
from registered import BETTER, GOOD, SAME, WORSE, aliases, change, registered_as, versions
from tiny_study import runs

from wit.choice import choose
from wit.errors import InputError
from wit.lineage import table
from wit.lineage.registry import MAX_DESCRIPTION
from wit.lineage.store import open_store
from wit.model_card import model_card
from wit.records import Kept


def test_the_first_model_is_champion_with_its_evidence(first: Contest, uri: str):
    made = first.register()
    assert (made.version, made.aliases, made.is_new) == ("1", ("champion",), True)
    assert aliases(uri) == {"champion": "1"}
    [version] = versions(uri).values()
    dpo = first.plan.dpo[0]
    assert version.source == (dpo.path / "model").as_uri()
    assert version.run_id == open_store(uri).find(dpo.fingerprint).info.run_id
    expected = {
        "wit.fingerprint": dpo.fingerprint,
        "wit.path": str(dpo.path),
        "wit.study": "first",
        "wit.weights": "p0-r1",
        "wit.seed": "0",
        "wit.select_benchmarks": SELECT,
        "wit.score.unseen": "0.750 ± 0.136",
        "wit.score.cloze": "2.500 ± 0.392",
    }
    assert expected.items() <= version.tags.items()
    assert registered_as(uri, dpo.fingerprint) == [("tiny-model", "1")]
    assert version.tags["wit.recommendation"] == first.choose().sentence
    assert "wit.comparison" not in version.tags
    assert version.description.startswith(f"# dpo p0-r1-s0 ({dpo.fingerprint})")
    assert len(version.description) <= MAX_DESCRIPTION


def test_weights_are_not_copied_and_the_whole_card_is_kept(first, uri, tmp_path: Path):
    first.register()
    client, [version] = open_store(uri).client, versions(uri).values()
    kept = {file.path for file in client.list_artifacts(version.run_id)}
    assert kept == {"record.json", "model_card.md"}
    card = Path(client.download_artifacts(version.run_id, "model_card.md", str(tmp_path)))
    assert card.read_text().startswith("---\nlibrary_name: transformers\n")


def test_the_same_model_makes_no_second_version(first: Contest, uri: str):
    first.register()
    again = first.register()
    assert (again.version, again.is_new) == ("1", False)
    assert "is version 1 of tiny-model already (champion)" in again.sentence
    assert len(versions(uri)) == 1
    assert first.register("other").is_new, "another name is another model"


def test_a_better_model_replaces_the_champion(first: Contest, uri: str, tmp_path):
    first.register()
    made = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER}).register()
    assert (made.version, made.aliases, made.compared_with) == ("2", ("champion",), "1")
    assert aliases(uri) == {"champion": "2"}
    assert made.comparison.difference == pytest.approx(9 / 40)
    tags = versions(uri)["2"].tags
    assert tags["wit.comparison"] == made.comparison.sentence
    assert float(tags["wit.comparison.difference"]) == pytest.approx(9 / 40)
    assert json.loads(tags["wit.comparison.num_items"]) == {SELECT: 40}
    assert tags["wit.compared_with"] == f"version 1 ({first.plan.dpo[0].fingerprint})"
    assert made.comparison.sentence in versions(uri)["2"].description


@pytest.mark.parametrize(
    ("answers", "said"), [(SAME, "no difference can be told"), (WORSE, "it is worse")]
)
def test_any_other_model_is_a_challenger(first: Contest, uri: str, tmp_path, answers, said):
    first.register()
    made = hold(tmp_path, uri, "second", {"p0.2-r1-s0": answers}).register()
    assert made.aliases == ("challenger",)
    assert said in made.sentence
    assert "version 1 stays champion" in made.sentence
    assert aliases(uri) == {"champion": "1", "challenger": "2"}


def test_other_items_cannot_be_compared(first: Contest, uri: str, tmp_path):
    first.register()
    better = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER}, topic="other").register()
    assert better.aliases == ("challenger",)
    assert "they were asked other items of unseen" in better.sentence


def test_a_metric_of_all_items_together_cannot_be_compared(first: Contest, uri: str, tmp_path):
    first.register()
    made = hold(tmp_path, uri, "second", {"p0.2-r1-s0": [None] * 40}).register()
    assert made.aliases == ("challenger",)
    assert "does not exist for single items" in made.sentence


def test_a_champion_that_is_gone_cannot_be_compared(first: Contest, uri: str, tmp_path):
    first.register()
    shutil.rmtree(first.plan.dpo[0].path)
    made = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER}).register()
    assert made.aliases == ("challenger",)
    assert "version 1 is gone from" in made.sentence


def test_a_champion_of_somebody_else_cannot_be_compared(first: Contest, uri: str):
    client = open_store(uri).client
    client.create_registered_model("tiny-model")
    client.create_model_version("tiny-model", "file:///elsewhere")
    client.set_registered_model_alias("tiny-model", "champion", "1")
    made = first.register()
    assert made.aliases == ("challenger",)
    assert "version 1 was not registered by wit" in made.sentence


def test_a_champion_in_another_root_is_compared(first: Contest, uri: str, tmp_path):
    first.register()
    made = hold(tmp_path / "other", uri, "second", {"p0.2-r1-s0": BETTER}).register()
    assert made.aliases == ("champion",)


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a:b", "..", "it's", "a\nb", "-x", "x" * 300, "ü"]
)
def test_a_name_that_mlflow_refuses_is_refused_before_anything_is_written(held: Contest, name: str):
    with pytest.raises(InputError, match="is no name of a model") as caught:
        held.register(name)
    assert caught.value.exit_code == 2
    assert open_store(held.uri).client.search_registered_models() == []


@pytest.mark.parametrize("table_name", ["registered_model_aliases", "model_versions"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failure_half_way_leaves_nothing(first, uri, tmp_path, table_name, is_first):
    if not is_first:
        first.register()
        first = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    change(
        uri,
        *(
            f"CREATE TRIGGER no_{how} BEFORE {how} ON {table_name} "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            for how in ("INSERT", "UPDATE")
        ),
    )
    with pytest.raises(InputError, match="does not answer as it should"):
        first.register()
    if is_first:
        assert open_store(uri).client.search_registered_models() == []
    else:
        assert list(versions(uri)) == ["1"]
        assert aliases(uri) == {"champion": "1"}
    assert registered_as(uri, first.plan.dpo[0].fingerprint) == []
    change(uri, "DROP TRIGGER no_INSERT", "DROP TRIGGER no_UPDATE")
    assert first.register().aliases == ("champion",)


def test_a_damaged_model_is_not_registered(first: Contest, uri: str):
    (first.plan.dpo[0].path / "model" / "weights").write_text("other")
    with pytest.raises(InputError, match="model/weights was changed"):
        first.register()
    assert open_store(uri).client.search_registered_models() == []


def test_a_model_that_is_not_here_is_not_registered(first: Contest, uri: str):
    shutil.rmtree(first.plan.dpo[0].path)
    assert first.choose().model.is_here is False
    with pytest.raises(InputError, match="not on this machine"):
        first.register()


@pytest.mark.parametrize("store", ["server", "postgresql_server"])
def test_a_server_registers_too(store: str, request, tmp_path: Path):
    server = request.getfixturevalue(store)
    served = hold(tmp_path, server, "served", {"p0-r1-s0": GOOD})
    assert served.register("served").aliases == ("champion",)
    assert served.register("served").is_new is False
    [version] = versions(server, "served").values()
    dpo = served.plan.dpo[0]
    model_id = runs(server)[dpo.fingerprint].data.tags["wit.model_id"]
    assert version.source == f"models:/{model_id}", "a server takes no local folder"
    assert registered_as(server, dpo.fingerprint) == [("served", "1")]
    assert version.tags["wit.path"] == str(served.plan.dpo[0].path)
    assert aliases(server, "served") == {"champion": "1"}


def test_the_seed_with_the_best_select_score_is_taken_then_the_smallest(uri: str, tmp_path: Path):
    answers = {"p0-r1-s0": WORSE, "p0-r1-s1": WORSE, "p0-r1-s2": WORSE}
    answers |= {"p0.2-r1-s0": GOOD, "p0.2-r1-s1": BETTER, "p0.2-r1-s2": BETTER[::-1]}
    contest = hold(tmp_path, uri, "seeds", answers)
    choice = contest.choose()
    assert (choice.weights, choice.num_seeds, choice.model.seed) == ("p0.2-r1", 3, 1)
    dpo = next(d for d in contest.plan.dpo if d.fingerprint == choice.model.fingerprint)
    assert dpo.recipe.model_dump()["seed"] == 1
    assert choice.model.folder == str(dpo.path / "model")
    assert contest.register().is_new
    assert "3 seeds were trained" in versions(uri)["1"].description


def test_answers_that_are_all_right_are_no_certainty(uri: str, tmp_path: Path):
    contest = hold(tmp_path, uri, "alike", {"p0-r1-s0": [1.0] * 40})
    [score] = (s for s in contest.choose().model.scores if s.benchmark == SELECT)
    assert score.score == 1
    assert score.half_width == pytest.approx(1.96**2 / (40 + 1.96**2), abs=1e-3)  # Wilson's
    assert "| unseen | select | exact_match | 40 | 1.000 ± 0.088 |" in model_card(
        Kept.at(contest.plan.dpo[0].path), {SELECT: "select"}
    )


def test_without_scores_it_is_said_what_is_missing(first: Contest, uri: str):
    scores = table("first", uri)
    scores = scores[scores["stage"] != "dpo"]
    with pytest.raises(InputError, match="Nothing can be recommended yet") as caught:
        choose(scores, "first", Path(), uri)
    assert "'wit compare first'" in str(caught.value)

"""A model that is registered again: what a kill left is made good, what a person did stays."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from contest import Contest, hold
from registered import BETTER, SAME, WORSE, aliases, change, versions

from wit.champion import register
from wit.errors import InputError
from wit.lineage.store import open_store


def killed_before_the_alias(uri: str, number: str, alias: str) -> None:
    client = open_store(uri).client
    client.delete_registered_model_alias("tiny-model", alias)
    client.delete_model_version_tag("tiny-model", number, "wit.alias")


@pytest.mark.parametrize(("answers", "alias"), [(SAME, "challenger"), (BETTER, "champion")])
def test_a_kill_before_the_alias_is_made_good(first, uri, tmp_path, answers, alias):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": answers})
    second.register()
    killed_before_the_alias(uri, "2", alias)
    open_store(uri).client.set_registered_model_alias("tiny-model", "champion", "1")
    again = second.register()
    assert (again.aliases, again.is_new) == ((alias,), False)
    assert aliases(uri) == {"champion": "1"} | {alias: "2"}


def test_a_kill_between_the_alias_and_its_mark_is_made_good(first: Contest, uri: str):
    first.register()
    open_store(uri).client.delete_model_version_tag("tiny-model", "1", "wit.alias")
    assert first.register().aliases == ("champion",)
    assert versions(uri)["1"].tags["wit.alias"] == "champion"


def test_an_alias_that_a_person_took_away_stays_away(first: Contest, uri: str, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": SAME})
    second.register()
    open_store(uri).client.delete_registered_model_alias("tiny-model", "challenger")
    assert second.register().aliases == ()
    assert aliases(uri) == {"champion": "1"}


def test_a_champion_of_the_past_does_not_come_back_by_itself(first: Contest, uri: str, tmp_path):
    first.register()
    hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER}).register()
    assert first.register().aliases == ()
    assert aliases(uri) == {"champion": "2"}


def test_a_rollback_by_a_person_stays(first: Contest, uri: str, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    second.register()
    open_store(uri).client.set_registered_model_alias("tiny-model", "champion", "1")
    again = second.register()
    assert "it was champion once, and version 1 stays champion" in again.sentence
    assert (again.version, again.aliases) == ("2", ())
    assert aliases(uri) == {"champion": "1"}


def test_a_challenger_becomes_champion_where_there_is_none(first: Contest, uri: str, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": SAME})
    second.register()
    open_store(uri).client.delete_model_version("tiny-model", "1")
    again = second.register()
    assert (again.version, again.aliases, again.is_new) == ("2", ("champion",), False)
    assert "is version 2 of tiny-model already (champion); there was no champion" in again.sentence
    assert aliases(uri) == {"champion": "2"}
    [version] = versions(uri).values()
    assert not [key for key in version.tags if key.startswith("wit.compar")]
    assert "Beside champion" not in version.description


def test_a_challenger_becomes_champion_of_a_worse_one(first: Contest, uri: str, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": SAME})
    second.register()
    hold(tmp_path, uri, "third", {"p0.4-r1-s0": WORSE}).register()
    client = open_store(uri).client
    client.set_registered_model_alias("tiny-model", "champion", "3")
    client.set_registered_model_alias("tiny-model", "challenger", "2")
    again = second.register()
    assert (again.version, again.aliases, again.compared_with) == ("2", ("champion",), "3")
    assert "it takes the place of version 3" in again.sentence
    assert again.comparison.sentence in again.sentence
    assert aliases(uri) == {"champion": "2"}
    tags = versions(uri)["2"].tags
    assert tags["wit.comparison"] == again.comparison.sentence
    assert tags["wit.compared_with"].startswith("version 3 ")


def test_a_challenger_that_is_no_better_stays_one(first: Contest, uri: str, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": SAME})
    second.register()
    again = second.register()
    assert "already (challenger); version 1 stays champion" in again.sentence
    assert "no difference can be told" in again.sentence
    assert aliases(uri) == {"champion": "1", "challenger": "2"}


def test_the_old_champion_has_its_alias_again_after_a_failure(first, uri, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    change(
        uri,  # the alias is moved, and what comes after it fails
        "CREATE TRIGGER no_mark BEFORE INSERT ON model_version_tags WHEN NEW.key = 'wit.alias' "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    with pytest.raises(InputError, match="does not answer as it should"):
        second.register()
    assert list(versions(uri)) == ["1"]
    assert aliases(uri) == {"champion": "1"}
    change(uri, "DROP TRIGGER no_mark")
    assert second.register().aliases == ("champion",)


def test_a_promotion_that_fails_leaves_the_champion(first, uri, tmp_path):
    first.register()
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    second.register()
    killed_before_the_alias(uri, "2", "champion")
    open_store(uri).client.set_registered_model_alias("tiny-model", "champion", "1")
    change(
        uri,
        "CREATE TRIGGER no_mark BEFORE INSERT ON model_version_tags WHEN NEW.key = 'wit.alias' "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    with pytest.raises(InputError, match="does not answer as it should"):
        second.register()
    assert aliases(uri) == {"champion": "1"}


def test_registrations_at_one_time_see_each_other(first: Contest, uri: str, tmp_path):
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    choices = [first.choose(), second.choose(), first.choose(), second.choose()]
    with ThreadPoolExecutor(len(choices)) as threads:
        made = list(threads.map(lambda choice: register("tiny-model", choice, uri), choices))
    assert sorted(versions(uri)) == ["1", "2"]
    assert sorted(one.is_new for one in made) == [False, False, True, True]
    better = next(number for number, v in versions(uri).items() if v.tags["wit.study"] == "second")
    assert aliases(uri)["champion"] == better

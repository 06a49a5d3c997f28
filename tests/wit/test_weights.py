"""Points of the grid, their names, presets and rays."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from wit.roles import Role
from wit.weights import PRESETS, TokenWeights, expand_weights

PAPER_AXIS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def pairs(value: object) -> list[TokenWeights]:
    return TypeAdapter(list[TokenWeights]).validate_python(expand_weights(value))


def test_unset_roles_follow_the_prompt_and_the_stop_follows_the_response() -> None:
    assert TokenWeights(prompt=0.2, response=0.7).by_role() == {
        Role.SPECIAL: 0,
        Role.TEMPLATE: 0.2,
        Role.BOILERPLATE: 0.2,
        Role.SYSTEM: 0.2,
        Role.PROMPT: 0.2,
        Role.RESPONSE: 0.7,
        Role.STOP: 0.7,
    }


@pytest.mark.parametrize("role", ["template", "boilerplate", "system", "stop"])
@pytest.mark.parametrize("own", [0, 0.5])
def test_a_role_can_have_a_weight_of_its_own_and_0_is_one(role: str, own: float) -> None:
    weights = TokenWeights.model_validate({"prompt": 0.2, "response": 1, role: own})
    plain = TokenWeights(prompt=0.2, response=1).by_role()
    assert weights.by_role() == {**plain, Role[role.upper()]: own}
    assert str(weights) == f"p0.2-r1-{role}{own:g}"


def test_boilerplate_follows_the_prompt_unless_it_has_a_weight_of_its_own() -> None:
    weights = TokenWeights(prompt=0.2, response=1, template=0, system=0)
    assert weights.by_role()[Role.BOILERPLATE] == 0.2
    own = TokenWeights(prompt=0.2, response=1, boilerplate=0.7).by_role()
    assert own[Role.BOILERPLATE] == 0.7
    assert own[Role.TEMPLATE] == own[Role.PROMPT] == 0.2


LEFT_OUT = {
    "instruction-tuning": {"PROMPT", "SYSTEM", "TEMPLATE", "BOILERPLATE"},
    "continual-pretraining": set(),
    "instruction-modelling": {"TEMPLATE", "BOILERPLATE"},
    "no-boilerplate": {"BOILERPLATE"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_leave_out_what_their_names_say(name: str) -> None:
    weights = TokenWeights.model_validate(PRESETS[name]).by_role()
    left_out = {role.name for role, weight in weights.items() if weight == 0}
    assert left_out == LEFT_OUT[name] | {"SPECIAL"}
    assert set(weights.values()) == {0, 1}


def test_special_tokens_are_never_targets() -> None:
    for preset in PRESETS.values():
        assert TokenWeights.model_validate(preset).by_role()[Role.SPECIAL] == 0
    with pytest.raises(ValidationError, match="special"):
        TokenWeights.model_validate({"prompt": 1, "response": 1, "special": 1})


NOTHING = {"prompt": 0, "response": 0}
USUAL = {"prompt": 0, "response": 1}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (NOTHING, "nothing would be learned"),
        ({**NOTHING, "template": 1}, "only template would be learned"),
        ({**NOTHING, "stop": 1, "system": 1}, "only system and stop would be learned"),
        ({**NOTHING, "template": 0}, "nothing would be learned"),
        ({**NOTHING, "sources": {"a": NOTHING}}, "nothing would be learned"),
        ({**NOTHING, "sources": {"a": {**NOTHING, "stop": 1}}}, "only stop would be learned"),
        ({**USUAL, "sources": {"a": {**NOTHING, "stop": 1}}}, "only stop would be learned"),
        ({**USUAL, "sources": {"a": {"prompt": -1, "response": 1}}}, "greater than or equal to 0"),
        ({**USUAL, "sources": {"a": {"prompt": float("nan"), "response": 1}}}, "finite"),
        ({**USUAL, "sources": {"a": {"prompt": 1}}}, "response"),
        ({**USUAL, "sources": {"a": {**USUAL, "sources": {}}}}, "sources.a.sources"),
        ({**USUAL, "sources": {"a": 1}}, "sources.a"),
        ({"prompt": -0.1, "response": 1}, "greater than or equal to 0"),
        ({"prompt": 0.1, "response": -1}, "greater than or equal to 0"),
        ({"prompt": float("nan"), "response": 1}, "finite"),
        ({"prompt": 1, "response": float("inf")}, "finite"),
        ({"prompt": 1, "response": 1, "stop": float("nan")}, "finite"),
        ({"prompt": 1, "response": 1, "boilerplate": -1}, "greater than or equal to 0"),
        ({"prompt": True, "response": 1}, "a number such as 0.2, not yes or no"),
        ({"prompt": 1, "response": 1, "stop": False}, "a number such as 0.2, not yes or no"),
        ({"prompt": 1e-7, "response": 1}, "0 or between 1e-06 and 1e[+]06"),
        ({"prompt": 1, "response": 1e7}, "0 or between 1e-06 and 1e[+]06"),
        ({"prompt": 1}, "response"),
        ({"prompt": None, "response": 1}, "prompt"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TokenWeights.model_validate(wrong)


def test_a_source_may_be_masked_as_long_as_another_one_teaches() -> None:
    masked = TokenWeights.model_validate({**USUAL, "sources": {"a": NOTHING}})
    assert set(masked.table("a").values()) == {0}
    assert masked.table("b") == masked.table("") == TokenWeights(**USUAL).by_role()
    alone = TokenWeights.model_validate({**NOTHING, "sources": {"a": USUAL}})
    assert set(alone.table("b").values()) == {0}
    assert alone.table("a") == TokenWeights(**USUAL).by_role()


def test_roles_of_a_source_follow_the_table_of_that_source() -> None:
    own = {"prompt": 0.5, "response": 0.7, "template": 0}
    weights = TokenWeights.model_validate({**USUAL, "stop": 0.3, "sources": {"a": own}})
    table = weights.table("a")
    assert (table[Role.SYSTEM], table[Role.TEMPLATE], table[Role.STOP]) == (0.5, 0, 0.7)
    assert weights.table("b")[Role.STOP] == 0.3


def test_all_weights_in_one_row_are_the_general_table_and_then_sources_by_name() -> None:
    tables = {"b": {"prompt": 3, "response": 4}, "a": {"prompt": 1, "response": 2}}
    weights = TokenWeights.model_validate({**USUAL, "sources": tables})
    general, a, b = (0, 0, 0, 0, 0, 1, 1), (0, 1, 1, 1, 1, 2, 2), (0, 3, 3, 3, 3, 4, 4)
    assert weights.flat == general + a + b
    assert TokenWeights(**USUAL).flat == general


def test_a_name_holds_the_tables_of_sources_whatever_their_order() -> None:
    one, two = {"prompt": 1, "response": 2}, {"prompt": 0.5, "response": 1, "stop": 0}
    names = {
        str(TokenWeights.model_validate({**USUAL, "sources": tables}))
        for tables in ({"a": one, "b": two}, {"b": two, "a": one})
    }
    assert names == {"p0-r1-a(p1-r2)-b(p0.5-r1-stop0)"}


def test_minus_zero_is_zero_also_in_a_name() -> None:
    assert str(TokenWeights(prompt=-0.0, response=1)) == "p0-r1"


def test_the_papers_grid_is_35_points_on_21_rays() -> None:
    points = pairs({"prompt": PAPER_AXIS, "response": PAPER_AXIS})
    assert len(points) == 35
    assert len({str(point) for point in points}) == 35
    assert len({point.ray for point in points}) == 21


def test_a_grid_may_have_more_axes() -> None:
    points = pairs({"prompt": [0, 1], "response": [0, 1], "template": [0, 0.5]})
    assert len(points) == 6
    assert str(points[0]) == "p0-r1-template0"


def test_a_grid_of_nothing_but_the_origin_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"both 0 in every pair .* value above 0"):
        expand_weights({"prompt": [0, 0.0], "response": [0], "template": [0, 1]})


def test_scaled_weights_lie_on_one_ray_and_others_do_not() -> None:
    def ray(**weights: float) -> tuple[float, ...]:
        return TokenWeights.model_validate(weights).ray

    assert ray(prompt=0.2, response=0.4) == ray(prompt=0.5, response=1)
    assert ray(prompt=0.1, response=0.3) == ray(prompt=1, response=3)
    assert ray(prompt=0.2, response=0.4) != ray(prompt=0.4, response=0.2)
    # Weights far apart lie on rays of their own, and rounding moves nothing off its ray.
    assert (
        ray(prompt=1e-6, response=1e6)
        != ray(prompt=2e-6, response=1e6)
        != ray(prompt=0, response=1)
    )
    assert ray(prompt=0.1 + 0.2, response=0.9) == ray(prompt=0.1, response=0.3)
    # The stop token's own weight does not scale with the others.
    assert ray(prompt=0.2, response=0.4, stop=1) != ray(prompt=0.5, response=1, stop=1)


def test_tables_of_sources_scale_with_the_others_or_leave_the_ray() -> None:
    def ray(scale: float, of_source: float) -> tuple[float, ...]:
        table = {"prompt": 0, "response": of_source}
        values = {"prompt": scale / 2, "response": scale, "sources": {"a": table}}
        return TokenWeights.model_validate(values).ray

    assert ray(1, 0.5) == ray(0.4, 0.2) != ray(0.4, 0.5)
    assert max(ray(0.5, 2)) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_stand_beside_pairs(name: str) -> None:
    first, second = pairs([name, {"prompt": 0.3, "response": 1}])
    assert first == TokenWeights.model_validate(PRESETS[name])
    assert str(second) == "p0.3-r1"


@pytest.mark.parametrize("value", ["instruction-tuning", 3, None, [3], ["no-such-name"], [[0, 1]]])
def test_anything_else_is_left_for_validation_to_refuse(value: object) -> None:
    with pytest.raises(ValidationError):
        pairs(value)

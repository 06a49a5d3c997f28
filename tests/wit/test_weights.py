"""Points of the grid, their names, presets and rays."""

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


@pytest.mark.parametrize("role", ["template", "system", "stop"])
@pytest.mark.parametrize("own", [0, 0.5])
def test_a_role_can_have_a_weight_of_its_own_and_0_is_one(role: str, own: float) -> None:
    weights = TokenWeights.model_validate({"prompt": 0.2, "response": 1, role: own})
    plain = TokenWeights(prompt=0.2, response=1).by_role()
    assert weights.by_role() == {**plain, Role[role.upper()]: own}
    assert str(weights) == f"p0.2-r1-{role}{own:g}"


def test_boilerplate_always_follows_the_prompt() -> None:
    weights = TokenWeights(prompt=0.2, response=1, template=0, system=0)
    assert weights.by_role()[Role.BOILERPLATE] == 0.2
    with pytest.raises(ValidationError, match="boilerplate"):
        TokenWeights.model_validate({"prompt": 1, "response": 1, "boilerplate": 0})


def test_special_tokens_are_never_targets() -> None:
    for preset in PRESETS.values():
        assert TokenWeights.model_validate(preset).by_role()[Role.SPECIAL] == 0
    with pytest.raises(ValidationError, match="special"):
        TokenWeights.model_validate({"prompt": 1, "response": 1, "special": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": 0, "response": 0},
        {"prompt": 0, "response": 0, "template": 1},
        {"prompt": -0.1, "response": 1},
        {"prompt": 0.1, "response": -1},
        {"prompt": float("nan"), "response": 1},
        {"prompt": 1, "response": float("inf")},
        {"prompt": 1, "response": 1, "stop": float("nan")},
        {"prompt": 1},
        {"prompt": None, "response": 1},
    ],
)
def test_weights_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TokenWeights.model_validate(wrong)


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
    # The stop token's own weight does not scale with the others.
    assert ray(prompt=0.2, response=0.4, stop=1) != ray(prompt=0.5, response=1, stop=1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_stand_beside_pairs(name: str) -> None:
    first, second = pairs([name, {"prompt": 0.3, "response": 1}])
    assert first == TokenWeights.model_validate(PRESETS[name])
    assert str(second) == "p0.3-r1"


@pytest.mark.parametrize("value", ["instruction-tuning", 3, None, [3], ["no-such-name"], [[0, 1]]])
def test_anything_else_is_left_for_validation_to_refuse(value: object) -> None:
    with pytest.raises(ValidationError):
        pairs(value)

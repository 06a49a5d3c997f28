"""A search as it stands in a study: under ``weights``, whose candidates and seeds it names."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wit.search.knobs import SearchKnobs

SEARCH = "search"


def with_candidates(study: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a study, with the weights and seeds that its search may try written out.

    A search that is wrong itself is left for validation, beside weights that are right.

    Raises:
        ValueError: Something stands there that a search does not go together with.
    """
    weights = study.get("weights")
    if isinstance(weights, list) and any(isinstance(w, Mapping) and SEARCH in w for w in weights):
        raise ValueError("'search' stands in no list: weights: {search: {budget: 10}}")
    if not isinstance(weights, Mapping) or SEARCH not in weights:
        if study.get(SEARCH) is not None:
            raise ValueError("'search' stands under 'weights': weights: {search: {budget: 10}}")
        return {**study}
    if study.get(SEARCH) is not None:
        raise ValueError("'search' stands twice; leave that beside 'weights' out")
    if len(weights) > 1:
        others = ", ".join(repr(key) for key in weights if key != SEARCH)
        raise ValueError(f"'weights.search' stands alone; leave {others} out, or the search")
    if "seeds" in study:
        raise ValueError("'seeds' of a search stand in it, as 'weights.search.seeds'; leave it out")
    given = weights[SEARCH] or {}
    try:
        knobs = SearchKnobs.model_validate(given)
    except ValidationError:
        return {**study, "weights": [{"prompt": 0, "response": 1}], SEARCH: given}
    return {**study, **_written_out(knobs), SEARCH: given}


def _written_out(knobs: SearchKnobs) -> dict[str, Any]:
    weights = [candidate.model_dump(mode="json") for candidate in knobs.candidates()]
    return {"weights": weights, "seeds": list(range(knobs.seeds))}

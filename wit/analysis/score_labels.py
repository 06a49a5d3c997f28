"""Scores that are no benchmark's, as a person calls them."""

from collections.abc import Iterable

from wit.score_names import (
    BEST_WORDING,
    CUT_PROMPTS,
    EMPTY_RESPONSES,
    KL_PROMPT,
    KL_REFERENCE,
    KL_RESPONSE,
    LENGTH_CONTROLLED,
    LOG_RATIO_CHOSEN,
    LOG_RATIO_MARGIN,
    LOG_RATIO_REJECTED,
    LOGP_MARGIN,
    LOGP_MARGIN_PER_TOKEN,
    MEAN_WORDING,
    NLL_CHOSEN,
    NLL_REJECTED,
    PREFERENCE_ACCURACY,
    RESPONSE_TOKENS,
    REWARD_ACCURACY,
    SAMPLED_CUT,
    SAMPLED_EMPTY,
    SAMPLED_TOKENS,
    SAMPLED_UNENDED,
    SENSITIVITY,
    TEXT_DRIFT,
    UNENDED_RESPONSES,
    UNPARSABLE,
    WORST_WORDING,
)

# In the order in which they are shown.
DIAGNOSTICS = {
    SENSITIVITY: "sensitivity (POSIX)",
    WORST_WORDING: "right in all wordings",
    MEAN_WORDING: "right, mean of wordings",
    BEST_WORDING: "right in any wording",
    EMPTY_RESPONSES: "empty responses",
    UNENDED_RESPONSES: "unended responses",
    RESPONSE_TOKENS: "tokens of a response",
    CUT_PROMPTS: "cut prompts",
    TEXT_DRIFT: "text NLL drift",
    KL_PROMPT: "KL, prompt",
    KL_RESPONSE: "KL, response",
    "nll_prompt": "prompt NLL",
    "nll_response": "response NLL",
    PREFERENCE_ACCURACY: "preference accuracy",
    REWARD_ACCURACY: "reward accuracy",
    LOGP_MARGIN: "margin of log-probabilities",
    LOGP_MARGIN_PER_TOKEN: "margin per token",
    LOG_RATIO_MARGIN: "margin of log-ratios",
    LOG_RATIO_CHOSEN: "log-ratio, chosen",
    LOG_RATIO_REJECTED: "log-ratio, rejected",
    NLL_CHOSEN: "NLL, chosen",
    NLL_REJECTED: "NLL, rejected",
    KL_REFERENCE: "KL from the SFT model",
    SAMPLED_TOKENS: "tokens of a drawn response",
    SAMPLED_EMPTY: "empty drawn responses",
    SAMPLED_UNENDED: "unended drawn responses",
    SAMPLED_CUT: "cut prompts of drawn responses",
    LENGTH_CONTROLLED: "win rate at equal length",
    UNPARSABLE: "share without a verdict",
}


def in_order(names: Iterable[str]) -> list[str]:
    """Those that have a label of their own first, in the order of the labels."""
    places = {name: place for place, name in enumerate(DIAGNOSTICS)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def signal_name(name: str) -> str:
    """A signal as a person calls it."""
    benchmark, _, part = name.partition("/")
    if part:
        return f"{signal_name(part)} of {benchmark}"
    if name.startswith("nll_"):
        return DIAGNOSTICS.get(name, f"{name.removeprefix('nll_')} NLL")
    if name.startswith(f"{SENSITIVITY}_"):
        return f"sensitivity, {name.removeprefix(f'{SENSITIVITY}_')}"
    return DIAGNOSTICS.get(name, name)

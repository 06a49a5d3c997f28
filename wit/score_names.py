"""Names of the scores that say how a model is, and not how good; imports nothing."""

PREFERENCE_ACCURACY = "preference_accuracy"  # share of held-out pairs that it orders rightly
SENSITIVITY = "sensitivity"  # to how a prompt is put
TEXT_NLL = "nll_text"  # of plain text
TEXT_DRIFT = "nll_text_drift"  # how much more that is than the base's
KL_PROMPT = "kl_prompt"  # from the base, at tokens of the prompt
KL_RESPONSE = "kl_response"
# Of held-out responses of the preferences: what the model alone finds of them,
LOGP_MARGIN = "logp_margin"  # of chosen over rejected, summed over tokens
LOGP_MARGIN_PER_TOKEN = "logp_margin_per_token"
NLL_CHOSEN, NLL_REJECTED = "nll_chosen", "nll_rejected"
# and how far that is from what its SFT parent finds: rewards, but for the factor beta.
LOG_RATIOS = LOG_RATIO_CHOSEN, LOG_RATIO_REJECTED = ("log_ratio_chosen", "log_ratio_rejected")
LOG_RATIO_MARGIN = "log_ratio_margin"
REWARD_ACCURACY = "reward_accuracy"  # share of pairs whose chosen response gained more
OF_PAIRS = (LOGP_MARGIN, LOGP_MARGIN_PER_TOKEN, LOG_RATIO_MARGIN, REWARD_ACCURACY)
OF_RESPONSES = (NLL_CHOSEN, NLL_REJECTED, *LOG_RATIOS)
# Of the model's own responses to held-out prompts, drawn at temperature 1.
KL_REFERENCE = "kl_reference"  # from its SFT parent, of a whole response
SAMPLED_TOKENS = "sampled_tokens"  # in the mean
SAMPLED_EMPTY, SAMPLED_UNENDED = "sampled_empty", "sampled_unended"  # shares
SAMPLED_CUT = "sampled_cut"  # share of the prompts that lost their beginning
OF_SAMPLED = (KL_REFERENCE, SAMPLED_TOKENS, SAMPLED_EMPTY, SAMPLED_UNENDED, SAMPLED_CUT)
ALIGNMENT = (*OF_PAIRS, *OF_RESPONSES, *OF_SAMPLED)
# Share of prompts that are answered rightly: in every wording, in the mean of the wordings, in any.
WORST_WORDING, MEAN_WORDING, BEST_WORDING = "worst_wording", "mean_wording", "best_wording"
WORDING = (WORST_WORDING, MEAN_WORDING, BEST_WORDING)
EMPTY_RESPONSES = "empty_responses"  # share
UNENDED_RESPONSES = "unended_responses"  # share that the limit cut
RESPONSE_TOKENS = "response_tokens"  # in the mean
CUT_PROMPTS = "cut_prompts"  # share that lost their beginning: longer than the model's context
LENGTH_CONTROLLED = "length_controlled_win_rate"  # of a judged set, as the next
UNPARSABLE = "unparsable_share"  # without a verdict
JUDGED = (LENGTH_CONTROLLED, UNPARSABLE, CUT_PROMPTS)  # parts of a judge's score
RESPONSES = (EMPTY_RESPONSES, UNENDED_RESPONSES, RESPONSE_TOKENS, CUT_PROMPTS)
# What likelihoods, distances from the base and sensitivities begin with, of which less is better.
COSTS = (
    *("nll_", "kl_", SENSITIVITY, EMPTY_RESPONSES, UNENDED_RESPONSES, CUT_PROMPTS),
    *(LOG_RATIO_REJECTED, SAMPLED_EMPTY, SAMPLED_UNENDED, SAMPLED_CUT),
)
OTHERS = (PREFERENCE_ACCURACY, *WORDING, RESPONSE_TOKENS, *ALIGNMENT)


def is_diagnostic(score: str) -> bool:
    """Whether a score is no benchmark's."""
    return score in OTHERS or score.startswith(COSTS)


def is_cost(score: str) -> bool:
    """Whether less of a diagnostic is better."""
    return score.startswith(COSTS) and score != NLL_REJECTED

"""What stages, their parents and scores are called; a question needs no more of artifacts."""

# The parent that an artifact continues; the others only feed it. Walking it leads from a score
# over DPO and SFT to the data.
PRINCIPAL = {
    "instructions": "tokenizer",
    "preferences": "tokenizer",
    "overlap": "instructions",
    "sft": "instructions",
    "dpo": "policy",
    "evaluation": "model",
}
TRAINING_DATA = {"sft": "instructions", "dpo": "preferences"}  # the part that is the data set
BASE = "base"
# Scores that say how a model is, and not how good: likelihoods (nll_ROLE) and these.
PREFERENCE_ACCURACY = "preference_accuracy"
SENSITIVITY = "sensitivity"  # to how a prompt is put; less is better


def is_diagnostic(score: str) -> bool:
    """Whether a score is no benchmark's."""
    return score.startswith("nll_") or score in (PREFERENCE_ACCURACY, SENSITIVITY)

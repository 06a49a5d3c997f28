"""What stages, their parents and scores are called; a question needs no more of artifacts."""

# The parent that an artifact continues; the others only feed it. Walking it leads from a score
# over DPO and SFT to the data.
PRINCIPAL = {
    "instructions": "tokenizer",
    "preferences": "tokenizer",
    "overlap": "instructions",
    "rung": "instructions",
    "sft": "instructions",
    "pairs": "policy",
    "reference": "policy",
    "dpo": "policy",
    "evaluation": "model",
}
TRAINING_DATA = {"sft": "instructions", "dpo": "preferences"}  # the part that is the data set
BASE = "base"

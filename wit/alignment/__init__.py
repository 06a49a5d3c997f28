"""Alignment with preferences: objectives, their losses, and the reference's log-probabilities."""

"""Preference pairs made of a policy's own responses."""

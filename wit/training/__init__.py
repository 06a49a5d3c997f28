"""Weighted SFT and DPO on TRL's trainers; the only imports of trl and peft."""

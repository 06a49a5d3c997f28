"""The order of stages, nothing else."""

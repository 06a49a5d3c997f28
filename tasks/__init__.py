"""One Prefect task per stage: name, tags, retries. What a stage does stands in ``wit``."""

"""What holds for all tests: nothing is fetched, and a property fails for everyone or for no one."""

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny models gain nothing from threads, and lose much to them on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")

"""All that stages import, so that it is imported once, before the first of them."""

import gc
import os
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # The process that workers are forked from: Ctrl-C ends it while it imports, without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see wit.forking
gc.disable()  # of the million objects of these imports none is garbage

import datasets.fingerprint  # noqa: E402
import numpy as np  # noqa: E402

import wit.data.overlap  # noqa: E402
import wit.evaluation.evaluate  # noqa: E402
import wit.evaluation.harness  # noqa: E402
import wit.evaluation.items  # noqa: E402
import wit.training.dpo  # noqa: E402
import wit.training.sft  # noqa: E402, F401
from wit.lineage.store import import_mlflow  # noqa: E402

import_mlflow()


def _draw_apart() -> None:
    """What nobody seeds draws other numbers in every worker; Python's ``random`` does by itself."""
    datasets.fingerprint.fingerprint_rng.seed()
    np.random.seed()


os.register_at_fork(after_in_child=_draw_apart)
gc.freeze()  # so trainings, which collect garbage, need not look at them
gc.enable()

"""Weighted SFT and DPO on TRL's trainers; the only imports of trl and peft."""

import logging

# As PEFT imports it, it tells every terminal of kernels that it would like to have.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

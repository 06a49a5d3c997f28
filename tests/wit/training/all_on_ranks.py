"""All trainings on ranks of which tests read what they leave: in one go, since ranks start slowly.

``python all_on_ranks.py BASE INSTRUCTIONS TOKENIZER OUT OTHER_TOKENIZER OTHER_INSTRUCTIONS`` on
every rank; the last two are those of the recorded trajectory.
"""

import sys
from pathlib import Path

import interrupted_ranks
import trajectories
from accelerate import PartialState


def main() -> None:
    base, instructions, tokenizer, out, *of_trajectory = map(Path, sys.argv[1:])
    PartialState(cpu=True)
    trajectories.train_on_ranks(*of_trajectory, out)
    interrupted_ranks.train_all((base, instructions, tokenizer), out)


if __name__ == "__main__":
    main()

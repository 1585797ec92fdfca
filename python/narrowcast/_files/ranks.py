"""Which part of a directory this process does, if several share it: from arguments or from the launcher."""

from __future__ import annotations

import os
from typing import Final

# Each launcher's variables: this process's number, and how many there are. Slurm's are those of a step (srun): a batch
# script is one process whatever the number of its tasks.
_LAUNCHERS: Final = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def check(rank: int, world: int) -> tuple[int, int]:
    """Return the arguments if they make sense."""
    if world < 1:
        raise ValueError(f"world is {world}; allowed are 1 and more processes")
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank}; allowed are 0 to {world - 1} (world is {world})")
    return rank, world


def from_environment() -> tuple[int, int]:
    """Return what torchrun or Slurm's srun says; 0 and 1 where neither has started this process."""
    for rank, world in _LAUNCHERS:
        if rank in os.environ and world in os.environ:
            try:
                return check(int(os.environ[rank]), int(os.environ[world]))
            except ValueError:
                raise ValueError(
                    f"{rank} is {os.environ[rank]!r} and {world} is {os.environ[world]!r}; allowed are a number below "
                    "that of all processes, and that number; --rank and --world take precedence"
                ) from None
    return 0, 1

"""What torchrun says to each of the processes that it starts; asked without torch, so that --help stays quick."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def place(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The number of this process, and of how many: 0 of 1 unless all of torchrun's variables are there.

    >>> place({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
    (1, 4)
    >>> place({"WORLD_SIZE": "4"})
    (0, 1)
    """
    if missing(environment):
        return 0, 1
    return int(environment["RANK"]), int(environment["WORLD_SIZE"])


def restarts(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started these processes again, after one of them was lost (`--max-restarts`).

    >>> restarts({"TORCHELASTIC_RESTART_COUNT": "1"}), restarts({})
    (1, 0)
    """
    count = environment.get("TORCHELASTIC_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0


def missing(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Which of torchrun's variables are not there, or not the numbers that they should be.

    >>> missing({"WORLD_SIZE": "four", "RANK": "1", "MASTER_PORT": "29500"})
    ['WORLD_SIZE', 'MASTER_ADDR']
    """
    return [name for name in VARIABLES if not _told(name, environment.get(name, ""))]


def _told(name: str, value: str) -> bool:
    return bool(value) if name == "MASTER_ADDR" else value.isdecimal()

"""Asking the model hub without waiting for minutes when there is no network."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 3.0  # seconds; the hub answers within one, and its client would retry for most of a minute


def reachable() -> bool:
    """Whether the model hub answers at all, asked once with a short time limit (also over name resolution)."""
    from huggingface_hub import constants, get_session

    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
        except Exception:  # whichever HTTP client the hub's library uses, any failure means: not reachable
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    return answered.is_set()


@contextmanager
def offline_if_unreachable() -> Iterator[bool]:
    """Inside, the hub's library looks only into its cache if the hub cannot be reached; yields whether it can be."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    online = not before and reachable()
    constants.HF_HUB_OFFLINE = not online
    try:
        with quiet(not online):  # one clear message follows from the caller, instead of each attempt's own
            yield online
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def quiet(really: bool = True) -> Iterator[None]:
    """Inside, the libraries' log messages are not shown (if `really`)."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL if really else before)
    try:
        yield
    finally:
        logging.disable(before)

"""Asking the model hub without waiting for minutes when there is no network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import constants, get_session

from clearclip.errors import UserError

PATIENCE = 3.0  # seconds; the hub answers within one, and its client would retry for most of a minute
T = TypeVar("T")


def fetch(get: Callable[[], T], what: str, otherwise: str = "") -> T:
    """What a library brings from the hub, or from its cache if the hub cannot be reached.

    Args:
        get: asks the library.
        what: what it is asked for, as the beginning of a message.
        otherwise: what can be done without the hub, as the end of a message.

    Raises:
        UserError: it cannot be had; each library fails in its own way, and the person needs one answer.
    """
    with offline_if_unreachable() as online:
        try:
            return get()
        except UserError:
            raise
        except Exception as error:
            if online:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise UserError(f"{what} could not be loaded: {reason}") from error
            raise UserError(
                f"{what} could not be loaded: not in the local cache, and the hub cannot be reached "
                f"({type(error).__name__}). Connect once, so that the library downloads it into its cache (HF_HOME names the "
                f"cache's folder, HF_HUB_OFFLINE=1 uses only it){otherwise}."
            ) from error


def reachable() -> bool:
    """Whether the model hub answers at all, asked once with a short time limit (also over name resolution)."""
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

"""SIGTERM: what a machine sends that is about to be switched off, or a scheduler whose time is over."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Termination:
    """A context in which SIGTERM only sets `asked`, so that a step can be finished.

    Outside the main thread, and where the program handles SIGTERM itself, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ours = False

    def __enter__(self) -> Termination:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._note)
            self._ours = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

"""Whether operations record a graph: a switch for each thread."""

from __future__ import annotations

import contextlib
import threading

_state = threading.local()


class no_grad(contextlib.ContextDecorator):  # noqa: N801 - used like a function, as elsewhere
    """Context or decorator in which no graph is recorded (in this thread only)."""

    def __enter__(self) -> None:
        self._before = grad_enabled()
        _state.enabled = False

    def __exit__(self, *exc: object) -> None:
        _state.enabled = self._before

    def _recreate_cm(self) -> no_grad:
        return no_grad()  # a decorated function may run in several threads, or call itself


def grad_enabled() -> bool:
    """Whether operations in this thread record a graph."""
    return getattr(_state, "enabled", True)

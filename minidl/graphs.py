"""CUDA graphs: work on a GPU that is captured once and launched as a whole from then on.

A small network's step or pass is dozens of launches of a few microseconds each; the time goes into making them. Each
replay of a graph does the same to the same memory, so what changes from one to the next must be put there before.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from .backend import Array, cupy_module, device_of, to_device

WARM_UP = 2  # runs before a capture: they compile kernels, and take all the memory that a run needs
SHARE_OF_MEMORY = 0.5  # of what is free: data sets up to this move to the device


class Graphs:
    """Work that is captured once for each signature; entered, it makes a device and a stream of its own current.

    Parameters
    ----------
    device : str
        "cuda:N".
    title : str
        What the warning says that could not be captured: "fit: a step of this model".
    """

    def __init__(self, device: str, title: str):
        self.title = title
        self._cupy, self._number = cupy_module(), int(device.partition(":")[2])
        self._captured: dict[Hashable, tuple[Any, Any, Any]] = {}
        self._seen: Counter[Hashable] = Counter()
        self._works = True
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Graphs:
        cuda = self._cupy.cuda
        self._entered.enter_context(cuda.Device(self._number))
        cuda.Device(self._number).synchronize()  # the new stream does not wait for what others began
        self._stream = cuda.Stream(non_blocking=True)
        self._entered.enter_context(self._stream)
        # What a capture frees may only be used again by a capture: its replays write there.
        self._pool = cuda.MemoryPool()
        return self

    def __exit__(self, *error: object) -> None:
        self._captured.clear()
        self._stream.synchronize()
        self._entered.close()

    def run(
        self,
        signature: Hashable,
        work: Callable[[], Any],
        capturing: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> tuple[Any, Any]:
        """Do the work: eagerly the first times with a signature, then as a graph.

        If something in it cannot be captured, all is eager, and a warning says why.

        Returns
        -------
        (result, note)
            What `work` returned, in memory that the next replay writes to; and what `capturing`, in which it was
            captured, gave, or None after an eager run.
        """
        captured = self._captured.get(signature)
        if captured is None and self._works and self._seen[signature] >= WARM_UP:
            captured = self._capture(signature, work, capturing)
        if captured is None:
            self._seen[signature] += 1
            with self._cupy.cuda.using_allocator(self._pool.malloc):
                return work(), None
        graph, result, note = captured
        graph.launch(self._stream)
        return result, note

    def _capture(
        self,
        signature: Hashable,
        work: Callable[[], Any],
        capturing: Callable[[], contextlib.AbstractContextManager[Any]],
    ) -> tuple[Any, Any, Any] | None:
        """The graph of this work, of which nothing has run yet; None if it cannot be captured."""
        stream, collecting = self._stream, gc.isenabled()
        gc.disable()  # what it frees might wait for the device
        try:
            with capturing() as note, self._cupy.cuda.using_allocator(self._pool.malloc):
                stream.begin_capture()
                try:
                    result = work()
                except BaseException:
                    with contextlib.suppress(Exception):
                        stream.end_capture()  # or everything else on the stream would fail
                    raise
                graph = stream.end_capture()
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            self._works = False
            first_line = str(error).partition("\n")[0]
            warnings.warn(
                f"{self.title} cannot be captured as a CUDA graph, so each is launched operation by operation "
                f"({type(error).__name__}: {first_line})",
                RuntimeWarning,
                stacklevel=6,
            )
            return None
        finally:
            if collecting:
                gc.enable()
        self._captured[signature] = graph, result, note
        return self._captured[signature]


def resident(arrays: tuple[Array, ...], device: str) -> tuple[Array, ...] | None:
    """The arrays on a GPU, moved there as a whole; None if they do not fit."""
    cupy = cupy_module()
    with cupy.cuda.Device(int(device.partition(":")[2])):
        free = cupy.cuda.runtime.memGetInfo()[0]
        if sum(a.nbytes for a in arrays if device_of(a) != device) > SHARE_OF_MEMORY * free:
            return None
        return tuple(to_device(a, device) for a in arrays)

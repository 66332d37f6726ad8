"""A device that is this computer: it counts what a GPU would be asked to do, and captures graphs of it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class Device:
    """What was launched, transferred and waited for; and the graph that is being captured, if one is.

    Attributes
    ----------
    launches : list of str
        Kernels, products, fills and copies on the device, in order.
    syncs, uploads : list of str
        Where the host waited for the device, and what it sent there.
    graph_launches : int
    allocated : list
        The pool that each array's memory came from, None for the usual one.
    """

    def __init__(self) -> None:
        self.current = 0
        self.stream: Stream | None = None
        self.recording: Graph | None = None
        self.pools: list[Any] = []
        self.forget()

    def forget(self) -> None:
        self.launches: list[str] = []
        self.syncs: list[str] = []
        self.uploads: list[str] = []
        self.graph_launches = 0
        self.allocated: list[Any] = []

    def allocate(self, array: np.ndarray) -> None:
        """A graph keeps what it works on."""
        self.allocated.append(self.pools[-1] if self.pools else None)
        if self.recording is not None:
            self.recording.memory.append(array)

    def sync(self, what: str) -> None:
        if self.recording is not None:
            raise RuntimeError(
                f"the current stream is capturing, so synchronous calls are disallowed ({what})"
            )
        self.syncs.append(what)

    def upload(self, what: str) -> None:
        if self.recording is not None:
            raise RuntimeError(f"the current stream is capturing, so transfers are disallowed ({what})")
        self.uploads.append(what)

    def launch(self, name: str, work: Callable[[], None]) -> None:
        """Do it now; or, while capturing, only note it."""
        if self.recording is not None:
            self.recording.work.append((name, work))
        else:
            self.launches.append(name)
            work()

    def compute(self, name: str, function: Callable[[], np.ndarray]) -> np.ndarray:
        """A launch that makes a new array."""
        with np.errstate(all="ignore"):
            result = np.asarray(function())  # while capturing its values mean nothing, but its shape does
        if self.recording is None:
            self.launches.append(name)
            self.allocate(result)
        else:
            result = result.copy()
            self.allocate(result)

            def again() -> None:
                with np.errstate(all="ignore"):
                    np.copyto(result, function())

            self.recording.work.append((name, again))
        return result


class Graph:
    """Launches in order, on the memory that they were captured with."""

    def __init__(self, device: Device):
        self.device, self.work, self.memory = device, list[tuple[str, Callable[[], None]]](), list[Any]()

    def launch(self, stream: Any = None) -> None:
        if self.device.recording is not None:
            raise RuntimeError("a graph cannot be launched into a capture here")
        self.device.graph_launches += 1
        for _, work in self.work:
            work()

    def upload(self, stream: Any = None) -> None:
        pass

    def names(self) -> Counter[str]:
        return Counter(name for name, _ in self.work)


class Stream:
    """One of the device's; those with a number can capture."""

    count = 0

    def __init__(self, device: Device, number: int):
        self.device, self.ptr = device, number

    def __enter__(self) -> Stream:
        self._before, self.device.stream = self.device.stream, self
        return self

    def __exit__(self, *error: object) -> None:
        self.device.stream = self._before

    def begin_capture(self, mode: Any = None) -> None:
        if not self.ptr:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: the null stream cannot capture")
        self.device.recording = Graph(self.device)

    def end_capture(self) -> Graph:
        graph, self.device.recording = self.device.recording, None
        if graph is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not capturing")
        return graph

    def is_capturing(self) -> bool:
        return self.device.recording is not None

    def synchronize(self) -> None:
        self.device.sync("stream.synchronize")

    def record(self, event: Any = None) -> Any:
        return event or object()

    def wait_event(self, event: Any) -> None:
        pass


@contextlib.contextmanager
def allocating_from(device: Device, pool: Any) -> Iterator[None]:
    device.pools.append(pool)
    try:
        yield
    finally:
        device.pools.pop()

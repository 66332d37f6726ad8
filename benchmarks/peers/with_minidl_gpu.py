"""minidl on a GPU: eager, or as `fit` and `predict` do it, with the step or pass captured as a graph.

GPU_MODE, "eager" or "graph", chooses; GPU_PRECISION=tf32 as in the other peer. Both train on one batch that is on the device already.
"""

from __future__ import annotations

import os

import numpy as np

import minidl as dl
from benchmarks.networks import Case
from benchmarks.peers import with_minidl
from minidl import backend
from minidl.captured import CapturedSteps
from minidl.graphs import Graphs
from minidl.metrics import Average


class Contestant(with_minidl.Contestant):
    def __init__(self, case: Case, weights: list[np.ndarray]):
        backend.precision(os.environ.get("GPU_PRECISION", "fp32"))
        mode = os.environ.get("GPU_MODE", "eager")
        self.version = f"minidl {dl.__version__}, {mode}"
        super().__init__(case, weights)
        self.cupy = backend.cupy_module()
        self.model.to("cuda")
        self.x, self.y = (backend.to_device(a, "cuda:0") for a in (self.x, self.y))
        self.captured: CapturedSteps | None = None
        self.graphs: Graphs | None = None
        if mode == "graph" and not self.training:
            self.graphs = Graphs("cuda:0", "a pass of this model").__enter__()
        elif mode == "graph":
            choices = case.batch, 0, False
            self.captured = CapturedSteps(
                self.model, self.optimizer, self._loss, self.x, self.y, *choices
            ).__enter__()
            self.average, self.steps = Average(), 0

    def _loss(self, outputs: dl.Tensor, targets: dl.Tensor) -> dl.Tensor:
        self.result = dl.ops.cross_entropy(outputs, targets)
        return self.result

    def _pass(self) -> dl.Tensor:
        with dl.no_grad():
            return self.model(self.x)

    def step(self) -> None:
        if self.graphs is not None:
            self.result, _ = self.graphs.run("pass", self._pass)
        elif self.captured is None:
            super().step()
        else:
            self.captured.step(self.steps, 0, self.average)  # epochs of one step
            self.steps += 1

    def close(self) -> None:
        for entered in (self.captured, self.graphs):
            if entered is not None:
                entered.__exit__()

    def wait(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def loss(self) -> float:
        self.wait()
        return float(self.result.numpy().mean())

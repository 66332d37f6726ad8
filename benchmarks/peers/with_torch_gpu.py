"""PyTorch on a GPU: eager, compiled ("reduce-overhead"), and a step captured as a graph by hand, in both memory formats.

GPU_MODE, "eager", "compile", "graph" or "graph_channels_last", chooses; GPU_PRECISION=tf32 lets products and convolutions use TF32. Adam is fused and capturable.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.networks import Case
from benchmarks.peers import with_torch


class Contestant(with_torch.Contestant):
    def __init__(self, case: Case, weights: list[np.ndarray]):
        self.mode, tf32 = os.environ.get("GPU_MODE", "eager"), os.environ.get("GPU_PRECISION") == "tf32"
        self.version = f"torch {torch.__version__}, {self.mode}"
        self.mode, _, layout = self.mode.partition("_")
        os.environ["TORCH_LAYOUT"] = layout
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        super().__init__(case, weights)
        self.model.cuda()
        self.x, self.y = self.x.cuda(), self.y.cuda()
        kind, lr = case.optimizer
        parameters = self.model.parameters()
        if kind == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True, capturable=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, fused=True)
        self.graph: Any = None
        self.steps = 0
        self.forward: Any = self.model
        if self.mode == "compile":
            self.forward = torch.compile(self.model, mode="reduce-overhead")

    def step(self) -> None:
        self.steps += 1
        if self.graph is not None:
            self.graph.replay()
        elif self.mode == "graph" and self.steps > 3:  # those before are its warm-up
            self._capture()
        elif self.mode == "graph":
            self._on_side_stream(self._work)
        else:
            self._work()

    def _work(self) -> None:
        if not self.training:
            with torch.no_grad():
                self.result = self.forward(self.x)
            return
        self.optimizer.zero_grad(set_to_none=True)
        self.result = functional.cross_entropy(self.forward(self.x), self.y)
        self.result.backward()
        self.optimizer.step()

    def _on_side_stream(self, work: Any) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._work()
        self.graph.replay()

    def close(self) -> None:
        self.graph = None
        if self.mode == "compile":
            torch.compiler.reset()

    def wait(self) -> None:
        torch.cuda.synchronize()

    def loss(self) -> float:
        self.wait()
        return float(self.result.mean())

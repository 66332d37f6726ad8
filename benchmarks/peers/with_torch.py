"""PyTorch, eager mode: fused optimisers, gradients set to None, inference mode for the forward pass.

TORCH_LAYOUT=channels_last keeps images and filters in that memory format.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks import EPS, MOMENTUM, Case

VERSION = f"torch {torch.__version__}"


def layout() -> torch.memory_format:
    last = os.environ.get("TORCH_LAYOUT") == "channels_last"
    return torch.channels_last if last else torch.contiguous_format


def layer(shape: tuple[int, ...], word: str, *arguments: Any) -> nn.Module:
    """The module that a word of `networks` means, for an input of `shape` (H, W, C) or (I,)."""
    match word, arguments:
        case "conv", (filters, kernel, padding, bias, stride):
            return nn.Conv2d(shape[-1], filters, kernel, stride, padding, bias=bias)
        case "batch_norm", _:
            kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return kind(shape[-1], eps=EPS, momentum=MOMENTUM)
        case "dense", (units,):
            return nn.Linear(shape[-1], units)
        case "relu" | "leaky_relu", _:
            return nn.ReLU(inplace=True) if word == "relu" else nn.LeakyReLU(0.01, inplace=True)
    kinds: dict[str, Any] = {
        "elu": nn.ELU,
        "max_pool": nn.MaxPool2d,
        "avg_pool": nn.AvgPool2d,
        "dropout": nn.Dropout,
        "flatten": nn.Flatten,
    }
    return kinds[word](*arguments)


class Contestant:
    def __init__(self, case: Case, weights: list[np.ndarray]):
        self.model = nn.Sequential(*(layer(shape, *words) for words, shape, _ in case.walk()))
        self._load(case, weights)
        x, y = case.batch_of_data()
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        if self.x.ndim == 4:
            self.x = self.x.permute(0, 3, 1, 2).contiguous(memory_format=layout())
            self.model = self.model.to(memory_format=layout())
        kind, lr = case.optimizer
        parameters = self.model.parameters()
        self.optimizer: torch.optim.Optimizer
        if kind == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, fused=True)
        self.training = case.training
        self.model.train(case.training)

    def _load(self, case: Case, weights: list[np.ndarray]) -> None:
        """NHWC weights into NCHW modules; the first dense layer after flattening sees its inputs reordered."""
        sources, flat = iter(weights), None
        for module, (words, shape, _) in zip(self.model, case.walk(), strict=True):
            if words[0] == "flatten":
                flat = shape
            if not isinstance(module, (nn.Conv2d, nn.Linear)):
                continue
            w = next(sources)
            if isinstance(module, nn.Conv2d):
                w = w.transpose(3, 2, 0, 1)
            else:
                if flat is not None:
                    w = w.reshape(*flat, -1).transpose(2, 0, 1, 3).reshape(w.shape)
                    flat = None
                w = w.T
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(w.copy()))
                if module.bias is not None:
                    module.bias.copy_(torch.from_numpy(next(sources)))

    def step(self) -> None:
        if not self.training:
            with torch.inference_mode():
                self.result = self.model(self.x)
            return
        self.optimizer.zero_grad(set_to_none=True)
        self.result = functional.cross_entropy(self.model(self.x), self.y)
        self.result.backward()
        self.optimizer.step()

    def loss(self) -> float:
        return float(self.result.mean())

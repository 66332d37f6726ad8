"""Does ``examples/emnist_transfer.py``'s network always start from random weights? The same in PyTorch.

python -m benchmarks.emnist_starts [--seeds 0 1 ...] [--record FILE]

Seven ReLU layers begin with PyTorch's small weights, without batch norm. Now and then all units of one layer die in
the first steps; then the network can only guess, one letter in 26. Both libraries get the same first weights and the
same batches of one epoch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import minidl as dl
from minidl.environment import environment
from minidl.layers import Conv2D, Dense, Flatten, MaxPool2D

BATCH, RATE, LETTERS = 32, 1e-3, 26  # as in the example
OF_EACH, HELD_OUT, SPLIT = 250, 0.2, 42
STARTED = 2 / LETTERS  # accuracy in the last hundred batches: twice that of guessing


def letters() -> tuple[np.ndarray, np.ndarray]:
    """The 5,200 images that the example trains on."""
    (x, y), _ = dl.data.emnist()
    rows = np.concatenate([np.flatnonzero(y == letter)[:OF_EACH] for letter in dict.fromkeys(y.tolist())])
    (x, y), _ = dl.data.train_validation_split(x[rows], y[rows] - 1, HELD_OUT, SPLIT)
    return x, y


def network(seed: int) -> dl.Sequential:
    init: dict[str, Any] = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}

    def conv(filters: int) -> Conv2D:
        return Conv2D(filters, 3, padding="same", activation="relu", **init)

    return dl.Sequential(
        *(conv(10), MaxPool2D(2), conv(150), MaxPool2D(2), conv(300), conv(300), conv(150), Flatten()),
        *(
            Dense(120, activation="relu", **init),
            Dense(84, activation="relu", **init),
            Dense(LETTERS, **init),
        ),
        input_shape=(28, 28, 1),
        seed=seed,
    )


def in_torch(parameters: list[Tensor], images: np.ndarray) -> Tensor:
    """Logits for uint8 images (N, H, W, 1); parameters in minidl's order and layout."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for number, (w, b) in enumerate(pairs):
        if w.ndim == 4:
            x = functional.relu(functional.conv2d(x, w.permute(3, 2, 0, 1), b, padding=1))
            x = functional.max_pool2d(x, 2) if number < 2 else x
        else:
            x = (x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x) @ w + b
            x = functional.relu(x) if number < len(pairs) - 1 else x
    return x


def train(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Accuracy in the last hundred batches of one epoch, in minidl and in PyTorch."""
    model = network(seed).train()
    parameters = [torch.tensor(p.numpy(), requires_grad=True) for p in model.parameters()]
    ours, theirs = dl.optim.Adam(model, RATE), torch.optim.Adam(parameters, RATE, fused=True)
    batches = np.split(np.random.default_rng(seed).permutation(len(x)), range(BATCH, len(x), BATCH))
    right = np.zeros((len(batches), 2), int)
    for number, rows in enumerate(batches):
        ours.zero_grad()
        mine = model(x[rows])
        dl.ops.cross_entropy(mine, y[rows]).backward()
        ours.step()
        theirs.zero_grad(set_to_none=True)
        other = in_torch(parameters, x[rows])
        functional.cross_entropy(other, torch.from_numpy(y[rows]).long()).backward()
        theirs.step()
        for library, logits in enumerate((mine.numpy(), other.detach().numpy())):
            right[number, library] = (logits.argmax(1) == y[rows]).sum()
    seen = sum(len(rows) for rows in batches[-100:])
    return tuple(right[-100:].sum(0) / seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    x, y = letters()
    starts: dict[str, list[Any]] = {"seeds": [], "minidl": [], "PyTorch": []}
    for seed in options.seeds:
        found = train(x, y, seed)
        for key, value in zip(starts, (seed, *found), strict=True):
            starts[key].append(value)
        words = ["started" if accuracy >= STARTED else "never started" for accuracy in found]
        print(
            f"seed {seed}: minidl {found[0]:.2%}, {words[0]}; PyTorch {found[1]:.2%}, {words[1]}", flush=True
        )
    if options.record is not None:
        record = {"script": "benchmarks/emnist_starts.py", "started_from": STARTED, "starts": starts}
        versions = {"torch": torch.__version__, "environment": environment()}
        options.record.write_text(json.dumps({**record, **versions}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""``examples/squeezenet_transfer.py``'s new head on CIFAR-10 in PyTorch: same weights, pixels and recipe.

python -m benchmarks.squeezenet_torch --seed 0 --record FILE

The features of the frozen layers are computed once, as the example does with ``cache_frozen=True``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import minidl as dl

SIZE, EPOCHS, RATE, BATCH = 224, 20, 1e-3, 32  # as in the example
MEANS = (103.939, 116.779, 123.68)  # of blue, green and red
FILE = "squeezenet/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"


class SqueezeNet:
    """Version 1.1 without its head: (N, 3, H, W) -> (N, 512), averaged over the pixels."""

    def __init__(self, path: Path):
        self.filters: dict[str, tuple[Tensor, Tensor]] = {}
        with h5py.File(path) as file:

            def keep(name: str, item: h5py.HLObject) -> None:
                if isinstance(item, h5py.Dataset):
                    layer = "/".join(name.split("/")[:2]) if name.startswith("fire") else name.split("/")[0]
                    w, b = self.filters.get(layer, (None, None))
                    array = torch.from_numpy(np.asarray(item))
                    self.filters[layer] = (array.permute(3, 2, 0, 1), b) if array.ndim == 4 else (w, array)

            file.visititems(keep)

    def conv(self, x: Tensor, layer: str, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.relu_(functional.conv2d(x, *self.filters[layer], stride=stride, padding=padding))

    def __call__(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.conv(x, "conv1", stride=2), 3, 2)
        for number in range(2, 10):
            fire = f"fire{number}"
            x = self.conv(x, f"{fire}/squeeze1x1")
            x = torch.cat(
                [self.conv(x, f"{fire}/expand1x1"), self.conv(x, f"{fire}/expand3x3", padding=1)], 1
            )
            if number in (3, 5):
                x = functional.max_pool2d(x, 3, 2)
        return x.mean((2, 3))


def features(net: SqueezeNet, images: np.ndarray) -> Tensor:
    """Of uint8 images (N, H, W, 3)."""
    parts = []
    for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH):
        pixels = functional.interpolate(batch.float(), size=(SIZE, SIZE), mode="bilinear")
        pixels = pixels.flip(1) - torch.tensor(MEANS)[:, None, None]
        parts.append(net(pixels.contiguous(memory_format=torch.channels_last)))
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, help="only the first images")
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    start = time.perf_counter()
    net = SqueezeNet(Path(os.environ["MINIDL_DATA"]) / FILE)
    train, test = ((x[: options.samples], y[: options.samples]) for x, y in dl.data.cifar10())
    with torch.inference_mode():
        x, x_test = features(net, train[0]), features(net, test[0])
    x, x_test = x.clone(), x_test.clone()  # inference tensors cannot be trained on
    y, y_test = torch.from_numpy(train[1]).long(), torch.from_numpy(test[1]).long()
    head = nn.Linear(512, 10)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer, dropout = torch.optim.Adam(head.parameters(), lr=RATE, fused=True), nn.Dropout(0.5)
    history: dict[str, list[float]] = {"accuracy": [], "val_accuracy": []}
    for _ in range(EPOCHS):
        right = 0
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            logits = head(dropout(x[rows]))
            functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
            right += int((logits.argmax(1) == y[rows]).sum())
        with torch.inference_mode():
            history["accuracy"].append(right / len(x))
            history["val_accuracy"].append(float((head(x_test).argmax(1) == y_test).float().mean()))
    seconds = round(time.perf_counter() - start, 1)
    print(f"{seconds} s, test accuracy {history['val_accuracy'][-1]:.2%}")
    runs = {"cifar10, feature extraction": {"seconds": seconds, "history": history}}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    record = {
        "script": "benchmarks/squeezenet_torch.py",
        "seed": options.seed,
        "versions": versions,
        "runs": runs,
    }
    options.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The network of ``examples/mnist_cnn.py`` in PyTorch, for ``benchmarks.mnist_cnn``: same data, recipe and report.

python -m benchmarks.mnist_cnn_torch --seed 0 --record FILE
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import minidl as dl


def build() -> nn.Module:
    """Keras's defaults, as in the example: Glorot's uniform weights, no biases at first."""
    norm = {"momentum": 0.01, "eps": 1e-3}
    first = [nn.Conv2d(1, 32, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(32, **norm)]
    second = [nn.Conv2d(32, 64, 5), nn.ReLU(inplace=True), nn.BatchNorm2d(64, **norm)]
    pool = [nn.MaxPool2d(2), nn.Dropout(0.5)]
    head = [nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(inplace=True), nn.Linear(128, 10)]
    model = nn.Sequential(*first, *pool, *second, *pool, *head)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "contiguous_format"])
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    layout = getattr(torch, options.layout)
    (x, y), (x_test, y_test) = (
        (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long())
        for images, labels in dl.data.mnist()
    )
    x, y = x[: options.samples], y[: options.samples]

    def images(part: torch.Tensor) -> torch.Tensor:
        return (part.float() / 255).contiguous(memory_format=layout)

    model = build().to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        model.train()
        hits, total = 0, torch.zeros(())
        for rows in torch.randperm(len(x)).split(options.batch_size):
            optimizer.zero_grad(set_to_none=True)
            labels = y[rows]
            logits = model(images(x[rows]))
            loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            hits += int((logits.detach().argmax(1) == labels).sum())
        model.eval()
        with torch.inference_mode():
            right = sum(
                int((model(images(a)).argmax(1) == b).sum())
                for a, b in zip(x_test.split(256), y_test.split(256), strict=True)
            )
        accuracy = right / len(x_test)
        print(
            f"epoch {epoch + 1}: loss {total / len(x):.4f}, accuracy {hits / len(x):.2%}, test {accuracy:.2%}"
        )
    seconds = time.perf_counter() - start
    results = {"test_accuracy": accuracy, "seconds": round(seconds, 1)}
    options.record.write_text(json.dumps({"results": results, "version": torch.__version__}) + "\n")


if __name__ == "__main__":
    main()

"""A convolutional network on MNIST: 5x5 kernels, 64 filters, batch norm and dropout.

python examples/mnist_cnn.py                      # MNIST if it is at hand, else drawn glyphs
python examples/mnist_cnn.py --data fashion_mnist --epochs 20 --out runs/fashion
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import minidl as dl
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D

Split = tuple[np.ndarray, np.ndarray]

filters, kernel_size = 64, 5  # of the second convolution
dropout = 0.5  # after each pooling
learning_rate = 1e-3  # Adam's
bn = {"momentum": 0.01, "eps": 1e-3}  # Keras's defaults: 0.99 there is the weight of the old average


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--data", default="auto", choices=["auto", "mnist", "fashion_mnist", "glyphs"])
    parser.add_argument("--samples", type=int, help="train on the first so many images only")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_cnn"), help="folder of the report")
    parser.add_argument("--record", type=Path, help="also write figures and settings to this JSON file")
    return parser.parse_args()


def load(name: str) -> tuple[str, Split, Split]:
    """The data set called `name`; "auto" is MNIST, or glyphs where MNIST cannot be had."""
    if name != "auto":
        return name, *getattr(dl.data, name)()
    try:
        return "mnist", *dl.data.mnist()
    except dl.MissingDataError:
        print(
            "MNIST is neither on this machine nor to be downloaded now: using glyphs, digits drawn from fonts."
        )
        return "glyphs", *dl.data.glyphs()


def build(seed: int) -> dl.Sequential:
    return dl.Sequential(
        Conv2D(32, 3, activation="relu"),
        BatchNorm(**bn),
        MaxPool2D(2),
        Dropout(dropout),
        Conv2D(filters, kernel_size, activation="relu"),
        BatchNorm(**bn),
        MaxPool2D(2),
        Dropout(dropout),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(10),
        input_shape=(28, 28, 1),
        seed=seed,
    )


def main() -> None:
    arguments = parse_arguments()
    try:
        device = dl.resolve_device(arguments.device)
        name, (x_train, y_train), (x_test, y_test) = load(arguments.data)
    except (dl.DeviceError, dl.DataError, ValueError) as error:
        print(f"mnist_cnn: {error}", file=sys.stderr)
        sys.exit(2)
    x_train, y_train = x_train[: arguments.samples], y_train[: arguments.samples]
    model = build(arguments.seed).to(device)
    print(dl.summary(model))

    arguments.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    history = dl.fit(
        model,
        x_train,
        y_train,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        optimizer=dl.optim.Adam(model, learning_rate),
        validation_data=(x_test, y_test),
        callbacks=[dl.callbacks.CSVLogger(arguments.out / "history.csv")],
        seed=arguments.seed,
    )
    seconds = time.perf_counter() - start
    logits = dl.predict(model, x_test)
    accuracy = float((logits.argmax(axis=1) == y_test).mean())
    print(
        f"{name}: test accuracy {accuracy:.2%} after {arguments.epochs} epochs, {seconds:.0f} s on {device}"
    )

    settings = {k: v for k, v in vars(arguments).items() if k not in ("out", "record")}
    settings |= {"data": name, "device": device, "samples": len(x_train)}
    results = {"test_accuracy": accuracy, "seconds": round(seconds, 1)}
    dl.weights.save(model, arguments.out / "weights.safetensors")
    record = {"experiment": "mnist_cnn", "settings": settings, "results": results}
    record |= {"history": history.history, "environment": dl.report.environment()}
    for path in filter(None, (arguments.out / "result.json", arguments.record)):
        path.write_text(json.dumps(record, indent=1) + "\n")
    dl.report.write_report(
        arguments.out / "report.html",
        model=model,
        history=history,
        settings=settings,
        results={"training time, s": results["seconds"]},
        x_test=x_test,
        y_test=y_test,
        predictions=logits,
        class_names=None if name == "glyphs" else dl.data.class_names(name),
        title=f"CNN on {name}",
    )
    print(f"report: {arguments.out / 'report.html'}")


if __name__ == "__main__":
    main()

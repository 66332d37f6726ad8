"""A small training run with everything that a checkpoint must bring back: dropout, augmentation, early stopping."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl as dl
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D

EPOCHS, BATCH, STEPS = 3, 16, 5


def data(count: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright corner that tells the class; the last of five batches is short."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, count)
    x = rng.integers(0, 120, (count, 12, 12, 1), np.uint8)
    for i, label in enumerate(y):
        x[i, 8 * (label // 2) : 8 * (label // 2) + 4, 8 * (label % 2) : 8 * (label % 2) + 4] += 100
    return x, y


def build(seed: int = 0, filters: int = 4) -> dl.Sequential:
    return dl.Sequential(
        Conv2D(filters, 3, activation="relu"),
        BatchNorm(),
        MaxPool2D(2),
        Dropout(0.3),
        Flatten(),
        Dense(4),
        input_shape=(12, 12, 1),
        seed=seed,
    )


def train(folder: Path, model=None, optimizer=None, callbacks=(), every: int | None = 2, **arguments):
    """(model, history) of a run with checkpoints in `folder`; it goes on from the newest of them."""
    model = model or build()
    x, y = data()
    test = data(20)
    chosen = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": test, "verbose": 0, "resume": "auto"}
    chosen |= {"augment": dl.data.RandomRotation(9), "seed": 1}
    everyone = [
        dl.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        dl.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.2),
        dl.callbacks.CSVLogger(folder / "history.csv"),
        dl.callbacks.ModelCheckpoint(folder / "best.safetensors", "val_loss"),
        *callbacks,
        dl.callbacks.Checkpoint(folder / "checkpoints", every=every),
    ]
    optimizer = optimizer(model) if optimizer else dl.optim.Adam(model, 0.01)
    history = dl.fit(model, x, y, optimizer=optimizer, callbacks=everyone, **(chosen | arguments))
    return model, history

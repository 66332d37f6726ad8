"""Write the small files in ``files/`` with the real other tools; run by hand when one is added.

python tests/weights/make_files.py        # needs torch==2.13.0 and keras==3.15 with tensorflow-cpu
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")

import numpy as np

FILES = Path(__file__).parent / "files"


def torch_files() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    x = torch.randn(8, 2, 6, 6)
    model.train()(x)  # moves the running statistics
    state = model.state_dict()
    torch.save(state, FILES / "torch_net.pth")
    torch.save(state, FILES / "torch_net_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, FILES / "torch_checkpoint.pt")
    model.eval()
    with torch.inference_mode():
        np.savez(FILES / "torch_net_io.npz", x=x.permute(0, 2, 3, 1).numpy(), y=model(x).numpy())
    base = torch.arange(12.0).reshape(3, 4)
    kinds = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    )
    many = {str(kind).removeprefix("torch."): torch.tensor([[0, 1], [2, 3]]).to(kind) for kind in kinds}
    many |= {
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "base": base,
        "tied": base,
        "column": base[:, 1],
        "transposed": base.T,
        "parameter": nn.Parameter(base[1:] + 0.5),
    }
    torch.save(many, FILES / "torch_kinds.pth")
    torch.save(many, FILES / "torch_kinds_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(nn.Linear(2, 2), FILES / "torch_module.pth")


def keras_files() -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    small = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, padding="same", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, name="dense"),
        ]
    )
    small.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(np.float32)
    small.fit(x, np.zeros((8, 3)), verbose=0)
    _save(small, "keras_net")
    np.savez(FILES / "keras_net_io.npz", x=x, y=np.asarray(small(x, training=False)))
    names = [*(f"d{i}" for i in range(10)), "dense_1", "dense"]  # the last two as groups of others are called
    deep = keras.Sequential([keras.Input((2,)), *(layers.Dense(2, name=name) for name in names)])
    _save(deep, "keras_deep")
    x = np.ones((1, 2), np.float32)
    np.savez(FILES / "keras_deep_io.npz", x=x, y=np.asarray(deep(x)))


def _save(model: object, name: str) -> None:
    model.save(FILES / f"{name}.keras")
    model.save_weights(FILES / f"{name}.weights.h5")
    model.save(FILES / f"{name}.h5")


if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    torch_files()
    keras_files()

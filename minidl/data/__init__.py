"""Data sets as plain NumPy arrays, batches of them, and random changes to images."""

from .augment import Compose, RandomCrop, RandomFlip, RandomRotation, RandomShift
from .batches import batches, to_float, train_validation_split
from .datasets import cifar10, class_names, emnist, fashion_mnist, mnist, svhn
from .glyphs import glyphs
from .inventory import get, list_datasets, path, status, verify
from .registry import DATASETS, EMNIST_SPLITS, DataError, MissingDataError

__all__ = [
    "DATASETS",
    "EMNIST_SPLITS",
    "Compose",
    "DataError",
    "MissingDataError",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomShift",
    "batches",
    "cifar10",
    "class_names",
    "emnist",
    "fashion_mnist",
    "get",
    "glyphs",
    "list_datasets",
    "mnist",
    "path",
    "status",
    "svhn",
    "to_float",
    "train_validation_split",
    "verify",
]

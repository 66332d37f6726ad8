"""The data sets: each function returns ``(x_train, y_train), (x_test, y_test)``.

x is uint8 (N, H, W, C), C-contiguous, pixels 0..255; y is int64 (N,). Nothing is scaled or shuffled.
"""

from __future__ import annotations

import numpy as np

from . import fetch, formats
from .registry import EMNIST_SPLITS, DataError, lookup

Split = tuple[np.ndarray, np.ndarray]
Splits = tuple[Split, Split]


def mnist() -> Splits:
    """MNIST: handwritten digits.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (60000, 28, 28, 1) and (10000, 28, 28, 1); y int64, the digit.

    Raises
    ------
    DataError
        A file is missing, truncated or altered.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proceedings
    of the IEEE 86(11), 1998.
    """
    return _idx_splits("mnist")


def fashion_mnist() -> Splits:
    """Fashion-MNIST: ten kinds of garment, ``class_names("fashion_mnist")``.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (60000, 28, 28, 1) and (10000, 28, 28, 1); y int64 in 0..9.

    Raises
    ------
    DataError
        A file is missing, truncated or altered.

    References
    ----------
    Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", arXiv:1708.07747, 2017.
    """
    return _idx_splits("fashion_mnist")


def emnist(split: str = "letters", transpose: bool = False) -> Splits:
    """EMNIST: handwritten letters and digits.

    Parameters
    ----------
    split : str
        "letters" (124,800 + 20,800; labels 1..26, upper and lower case merged), "balanced" (112,800 +
        18,800; 47 classes), "byclass" (697,932 + 116,323; 62), "bymerge" (the same; 47), "digits"
        (240,000 + 40,000; 10) or "mnist" (60,000 + 10,000; 10).
    transpose : bool
        Turn the images upright. As published, each image is stored transposed.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (N, 28, 28, 1); y int64 as stored: 1..26 for "letters", else from 0.

    Raises
    ------
    DataError
        A file is missing, truncated or altered.
    ValueError
        There is no such split.

    References
    ----------
    Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters",
    arXiv:1702.05373, 2017.
    """
    if split not in EMNIST_SPLITS:
        raise ValueError(f"emnist: split must be one of {', '.join(EMNIST_SPLITS)}, got {split!r}")
    (x_train, y_train), (x_test, y_test) = _idx_splits(f"emnist/{split}")
    if transpose:
        x_train, x_test = (np.ascontiguousarray(x.swapaxes(1, 2)) for x in (x_train, x_test))
    return (x_train, y_train), (x_test, y_test)


def cifar10() -> Splits:
    """CIFAR-10: small colour photographs of ten kinds of thing, ``class_names("cifar10")``.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (50000, 32, 32, 3) and (10000, 32, 32, 3), RGB; y int64 in 0..9.

    Raises
    ------
    DataError
        A file is missing, truncated or altered.

    References
    ----------
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    batches = []
    for content in fetch.read("cifar10"):
        if content.form.encoding == "cifar-pickle":
            md5 = content.form.content.checksum.partition(":")[2]
            batches.append(formats.cifar_pickle(content.data, md5, content.origin))
        else:
            batches.append(formats.cifar_binary(content.data, content.origin))
    x_train = np.concatenate([x for x, _ in batches[:-1]])
    y_train = np.concatenate([y for _, y in batches[:-1]])
    return (x_train, y_train), batches[-1]


def svhn() -> Splits:
    """SVHN, cropped: digits of house numbers in street photographs. Needs SciPy (``minidl[svhn]``).

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (73257, 32, 32, 3) and (26032, 32, 32, 3), RGB; y int64, the digit (the files store 0
        as 10).

    Raises
    ------
    DataError
        A file is missing, truncated or altered, or SciPy is not installed.

    References
    ----------
    Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading digits in natural images with unsupervised feature
    learning", NIPS workshop, 2011.
    """
    train, test = (formats.svhn_mat(part.data, part.origin) for part in fetch.read("svhn"))
    return train, test


def class_names(name: str) -> tuple[str, ...]:
    """The classes of a data set by label, such as ``class_names("cifar10")[3] == "cat"``.

    A label that no image has is "": the labels of EMNIST letters start at 1.
    """
    dataset = lookup(name)
    return ("",) * dataset.first_label + dataset.classes


def _idx_splits(name: str) -> Splits:
    """Four IDX files, images and labels of train and test, checked against each other."""
    dataset = lookup(name)
    low, high = dataset.first_label, dataset.first_label + len(dataset.classes) - 1
    parts = fetch.read(name)
    arrays = [formats.idx(part.data, part.origin) for part in parts]
    splits = []
    for i in (0, 2):
        x, origin = arrays[i], parts[i].origin
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28):
            raise DataError(f"{origin}: expected uint8 (N, 28, 28), found {x.dtype} {x.shape}")
        y = formats.labels(arrays[i + 1], low, high, parts[i + 1].origin)
        formats.same_count(x, y, origin)
        splits.append((x[..., np.newaxis], y))
    return splits[0], splits[1]

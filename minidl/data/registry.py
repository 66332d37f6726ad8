"""What each data set consists of: names, sizes, checksums and mirrors. Facts only, no code that reads."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from .tables import CIFAR_FILES, FASHION_FILES, LETTERS_FILES, MNIST_FILES, SVHN_FILES


class DataError(RuntimeError):
    """A data file is missing, truncated, altered or not in its format; the message says what to do."""


class MissingDataError(DataError):
    """A data set is not on this machine and cannot be downloaded now."""


@dataclass(frozen=True)
class Blob:
    """What published bytes must be: their number and their checksum, "" or None where not known."""

    nbytes: int | None = None
    checksum: str = ""  # "sha256:..." or "md5:...", as pooch writes them


@dataclass(frozen=True)
class Archive:
    """A .tar.gz or .zip that holds several files."""

    name: str
    blob: Blob
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """One way a file may lie on disk.

    `name` is the file's name, or the member's inside `archive`; `disk` is what the file itself must be
    and `content` what it must be once unpacked.
    """

    name: str
    encoding: str  # "idx", "cifar-binary", "cifar-pickle" or "mat"
    disk: Blob = Blob()
    packing: str = ""  # "", "gz" or "xz"
    content: Blob = Blob()
    archive: Archive | None = None


@dataclass(frozen=True)
class Part:
    """One file of a data set with the forms it is accepted in; `mirrors` serve the first form."""

    name: str
    forms: tuple[Form, ...]
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One data set. `folders` are looked through in order; the first one is where downloads go."""

    name: str
    title: str
    folders: tuple[str, ...]
    parts: tuple[Part, ...]
    classes: tuple[str, ...]
    first_label: int = 0


_DIGITS = tuple("0123456789")
_UPPER = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = tuple("abcdefghijklmnopqrstuvwxyz")
# The 11 lower-case letters whose shape differs from the capital's, so that they stay classes of their own.
_MERGED = _DIGITS + _UPPER + tuple("abdefghnqrt")
_GARMENTS = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR_CLASSES = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"

# split: train images, test images, classes, first label (sizes of the published files, not of the paper)
_EMNIST_SPLITS = {
    "letters": (124_800, 20_800, _UPPER, 1),
    "balanced": (112_800, 18_800, _MERGED, 0),
    "byclass": (697_932, 116_323, _DIGITS + _UPPER + _LOWER, 0),
    "bymerge": (697_932, 116_323, _MERGED, 0),
    "digits": (240_000, 40_000, _DIGITS, 0),
    "mnist": (60_000, 10_000, _DIGITS, 0),
}
EMNIST_SPLITS = tuple(_EMNIST_SPLITS)
_EMNIST_ZIP = Archive(
    "gzip.zip",
    Blob(561_753_746, "md5:58c8d27c78d21e728a6bc7b3cc06412e"),
    ("https://biometrics.nist.gov/cs_links/EMNIST/",),
)

_KRIZ = ("https://www.cs.toronto.edu/~kriz/",)
_CIFAR_BINARY = Archive(
    "cifar-10-binary.tar.gz",
    Blob(170_052_171, "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    _KRIZ,
)
_CIFAR_PYTHON = Archive(
    "cifar-10-python.tar.gz",
    Blob(170_498_071, "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    _KRIZ,
)


def _rows(table: str, width: int) -> list[list[str]]:
    words = table.split()
    return [words[i : i + width] for i in range(0, len(words), width)]


def idx_part(
    name: str, gz: Blob, raw: Blob, mirrors: tuple[str, ...] = (), archive: Archive | None = None
) -> Part:
    """An IDX file: as .gz, unpacked, or a .gz inside the folder "gzip" of `archive`."""
    forms = [Form(name + ".gz", "idx", gz, "gz", raw), Form(name, "idx", raw, "", raw)]
    if archive is not None:
        forms.append(Form(f"gzip/{name}.gz", "idx", gz, "gz", raw, archive))
    return Part(name + ".gz", tuple(forms), mirrors)


def cifar_part(name: str, binary: Blob, pickle: Blob) -> Part:
    """A CIFAR-10 batch: binary or pickle (plain or .xz), loose or in its archive."""
    in_binary, in_python = f"cifar-10-batches-bin/{name}.bin", f"cifar-10-batches-py/{name}"
    forms = (
        Form(f"{name}.bin", "cifar-binary", binary, "", binary),
        Form(name, "cifar-pickle", pickle, "", pickle),
        Form(f"{name}.xz", "cifar-pickle", Blob(), "xz", pickle),
        Form(in_binary, "cifar-binary", binary, "", binary, _CIFAR_BINARY),
        Form(in_python, "cifar-pickle", pickle, "", pickle, _CIFAR_PYTHON),
    )
    return Part(name, forms)


def _mnist_like(table: str, mirrors: tuple[str, ...]) -> tuple[Part, ...]:
    return tuple(
        idx_part(name, Blob(int(size), f"sha256:{gz}"), Blob(int(raw_size), f"sha256:{raw}"), mirrors)
        for name, size, gz, raw_size, raw in _rows(table, 5)
    )


def _emnist_parts(split: str, n_train: int, n_test: int) -> tuple[Part, ...]:
    known = {part.name: part.forms[0] for part in _mnist_like(LETTERS_FILES, ())}
    parts = []
    for which, count in (("train", n_train), ("test", n_test)):
        for kind, nbytes in (("images-idx3", 16 + 784 * count), ("labels-idx1", 8 + count)):
            name = f"emnist-{split}-{which}-{kind}-ubyte"
            form = known.get(name + ".gz", Form(name, "idx", content=Blob(nbytes)))
            parts.append(idx_part(name, form.disk, form.content, archive=_EMNIST_ZIP))
    return tuple(parts)


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        "mnist",
        "MNIST handwritten digits, 60,000 + 10,000 of 28x28",
        ("mnist", "MNIST", "MNIST/raw"),
        _mnist_like(
            MNIST_FILES,
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
        _DIGITS,
    ),
    "fashion_mnist": Dataset(
        "fashion_mnist",
        "Fashion-MNIST garments, 60,000 + 10,000 of 28x28",
        ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
        _mnist_like(
            FASHION_FILES,
            (
                "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            ),
        ),
        tuple(_GARMENTS.split(",")),
    ),
    "cifar10": Dataset(
        "cifar10",
        "CIFAR-10 photographs, 50,000 + 10,000 of 32x32x3",
        ("cifar-10", "cifar10", ""),
        tuple(
            cifar_part(name, Blob(30_730_000, f"sha256:{sha}"), Blob(int(size), f"md5:{md5}"))
            for name, sha, size, md5 in _rows(CIFAR_FILES, 4)
        ),
        tuple(_CIFAR_CLASSES.split(",")),
    ),
    "svhn": Dataset(
        "svhn",
        "SVHN house numbers, 73,257 + 26,032 of 32x32x3",
        ("svhn", "SVHN", ""),
        tuple(
            Part(
                name,
                (Form(name, "mat", Blob(int(size), f"sha256:{sha}")),),
                (
                    "https://ufldl.stanford.edu/housenumbers/",
                    "http://ufldl.stanford.edu/housenumbers/",
                ),
            )
            for name, size, sha in _rows(SVHN_FILES, 3)
        ),
        _DIGITS,
    ),
}
for _split, (_n_train, _n_test, _classes, _first) in _EMNIST_SPLITS.items():
    DATASETS[f"emnist/{_split}"] = Dataset(
        f"emnist/{_split}",
        f"EMNIST {_split}, {_n_train:,} + {_n_test:,} of 28x28",
        ("emnist", "EMNIST", "EMNIST/raw", ""),
        _emnist_parts(_split, _n_train, _n_test),
        _classes,
        _first,
    )


def lookup(name: str) -> Dataset:
    """The data set called `name`; "emnist" is its split "letters".

    Raises
    ------
    ValueError
        No data set has that name; the message offers the nearest one.
    """
    key = "emnist/letters" if name == "emnist" else name.replace("-", "_")
    if key in DATASETS:
        return DATASETS[key]
    near = difflib.get_close_matches(key, DATASETS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no data set is called {name!r}{hint} Known: {', '.join(DATASETS)}")

"""Small data sets, written in exactly the published formats, with their own checksums in the registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minidl.data import registry
from minidl.data.registry import DATASETS, Archive, Blob


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """An empty data folder and cache of the test's own, and no network."""
    own, cache = tmp_path / "own", tmp_path / "cache"
    own.mkdir()
    monkeypatch.setenv("MINIDL_DATA", str(own))
    monkeypatch.setenv("MINIDL_CACHE", str(cache))
    monkeypatch.setenv("MINIDL_OFFLINE", "1")
    return SimpleNamespace(own=own, cache=cache)


def blob(data: bytes, algorithm: str = "sha256") -> Blob:
    return Blob(len(data), f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def numpy1_pickle(batch: dict) -> bytes:
    """With the module name that NumPy 1 wrote, as in the published archive."""
    return pickle.dumps(batch, protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")


class Idx(SimpleNamespace):
    """Four IDX files of a tiny MNIST or EMNIST: `files` holds the .gz bytes by published name."""

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder


def tiny_idx(name: str, first_label: int, mirrors=(), archive=None, **arrays) -> Idx:
    rng = np.random.default_rng(7)
    made = {
        "x_train": rng.integers(0, 256, (6, 28, 28), np.uint8),
        "y_train": np.arange(6) + first_label,
        "x_test": rng.integers(0, 256, (4, 28, 28), np.uint8),
        "y_test": np.arange(4) + first_label,
    } | arrays
    names = [part.forms[1].name for part in DATASETS[name].parts]
    raw = {n: idx_bytes(a) for n, a in zip(names, made.values(), strict=True)}
    packed = {n: gzip.compress(data, mtime=0) for n, data in raw.items()}
    parts = tuple(registry.idx_part(n, blob(packed[n]), blob(raw[n]), mirrors, archive) for n in names)
    files = {n + ".gz": data for n, data in packed.items()}
    return Idx(name=name, files=files, raw=raw, parts=parts, **made)


@pytest.fixture
def tiny_mnist(monkeypatch):
    """Call it to put a tiny MNIST into the registry; keyword arguments replace arrays or mirrors."""

    def make(**changes) -> Idx:
        tiny = tiny_idx("mnist", 0, **changes)
        monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], parts=tiny.parts))
        return tiny

    return make


@pytest.fixture
def tiny_emnist(monkeypatch):
    """A tiny EMNIST letters in a zip as NIST packs it; `.zip` holds its bytes."""
    tiny = tiny_idx("emnist/letters", 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gzip/emnist-digits-train-labels-idx1-ubyte.gz", b"not asked for")
        for name, data in tiny.files.items():
            archive.writestr(f"gzip/{name}", data)
    tiny.zip = buffer.getvalue()
    place = Archive("gzip.zip", blob(tiny.zip, "md5"), ("http://127.0.0.1:9/",))
    tiny.parts = tiny_idx("emnist/letters", 1, archive=place).parts
    dataset = replace(DATASETS["emnist/letters"], parts=tiny.parts)
    monkeypatch.setitem(DATASETS, "emnist/letters", dataset)
    return tiny


@pytest.fixture
def tiny_cifar(monkeypatch):
    """A tiny CIFAR-10 of 3 images a batch: binary and pickled batches, and both archives."""
    rng = np.random.default_rng(8)
    names = [part.name for part in DATASETS["cifar10"].parts]
    x = rng.integers(0, 256, (6, 3, 32, 32, 3), np.uint8)
    y = rng.integers(0, 10, (6, 3))
    binary, pickled = {}, {}
    for name, images, labels in zip(names, x, y, strict=True):
        planes = images.transpose(0, 3, 1, 2).reshape(3, 3072)
        binary[name] = b"".join(
            bytes([label]) + row.tobytes() for label, row in zip(labels, planes, strict=True)
        )
        pickled[name] = numpy1_pickle({"data": planes, "labels": [int(v) for v in labels]})
    tars = {
        "binary": tar_bytes({f"cifar-10-batches-bin/{n}.bin": d for n, d in binary.items()}),
        "python": tar_bytes({f"cifar-10-batches-py/{n}": d for n, d in pickled.items()}),
    }
    for kind in tars:
        name = f"_CIFAR_{kind.upper()}"
        old = getattr(registry, name)
        monkeypatch.setattr(registry, name, replace(old, blob=blob(tars[kind])))
    parts = tuple(registry.cifar_part(n, blob(binary[n]), blob(pickled[n], "md5")) for n in names)
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], parts=parts))
    xz = {n: lzma.compress(data) for n, data in pickled.items()}
    return SimpleNamespace(x=x, y=y, binary=binary, pickled=pickled, xz=xz, tars=tars)


@pytest.fixture
def server(monkeypatch):
    """A local web server: `answers[path]` is bytes, an error code, or a function of the request."""
    monkeypatch.delenv("MINIDL_OFFLINE")
    answers: dict = {}
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            answer = answers.get(self.path, 404)
            if callable(answer):
                answer(self)
            elif isinstance(answer, int):
                self.send_error(answer)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    yield SimpleNamespace(url=url, answers=answers, requests=requests)
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def hosted(places, tiny_mnist, server):
    """A tiny MNIST on two mirrors, /a/ and /b/, neither of which has it yet."""
    tiny = tiny_mnist(mirrors=(f"{server.url}/a/", f"{server.url}/b/"))
    tiny.folder, tiny.server = places.cache / "mnist", server

    def serve(mirror: str, **changes) -> None:
        files = {name: changes.get("change", lambda d: d)(d) for name, d in tiny.files.items()}
        server.answers.update({f"/{mirror}/{name}": d for name, d in files.items()})

    tiny.serve = serve
    return tiny

"""Weights in files: round trips of any array, writing whole or not at all, refusing what is damaged."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidl as dl
from minidl import weights
from minidl.layers import BatchNorm, Conv2D, Dense, Flatten, Sequential
from minidl.weights import WeightsError, write_atomically
from minidl.weights.safetensors_file import read_metadata

SUFFIXES = [".safetensors", ".npz"]


def make_model(seed=0, classes=3):
    return Sequential(
        Conv2D(2, 3), BatchNorm(), Flatten(), Dense(classes, name="head"), input_shape=(5, 5, 1), seed=seed
    )


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"weights{request.param}"


def assert_same(a, b):
    assert set(a) == set(b)
    for name, value in a.items():
        value = np.asarray(value)
        assert b[name].dtype.newbyteorder("=") == value.dtype.newbyteorder("="), name
        assert b[name].shape == value.shape, name
        np.testing.assert_array_equal(b[name], value, err_msg=name)


def test_round_trip_of_a_model(path, rng):
    a, b = make_model(1), make_model(2)
    x = rng.standard_normal((4, 5, 5, 1)).astype(np.float32)
    a.train()(x)
    weights.save(a, path)
    weights.load(b, path)
    assert_same(a.state_dict(), b.state_dict())
    np.testing.assert_array_equal(a.eval()(x).data, b.eval()(x).data)
    assert_same(a.state_dict(), weights.read(path))


@pytest.mark.scenario("B23")
def test_changed_numbers_are_noticed(tmp_path):
    weights.save({"a": np.arange(4.0), "b": np.arange(3)}, tmp_path / "w.safetensors")
    data = bytearray((tmp_path / "w.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"other numbers in '[ab]' than were written"):
        weights.read(tmp_path / "w.safetensors")


def test_round_trip_of_packed_parameters(path, rng):
    """Views of an optimiser's buffer."""
    model = make_model()
    optimizer = dl.optim.Adam(model)
    model(rng.standard_normal((4, 5, 5, 1))).sum().backward()
    optimizer.step()
    weights.save(model, str(path))
    assert_same(model.state_dict(), weights.read(str(path)))


GRID = np.arange(24.0).reshape(2, 3, 4)
ARRAYS = {
    "transposed": GRID.T.astype(np.float32),
    "swapped": GRID.swapaxes(0, 1),
    "strided": GRID[:, ::2, 1::2].astype(np.float32),
    "reversed": GRID[::-1, :, ::-1],
    "fortran": np.asfortranarray(GRID),
    "broadcast": np.broadcast_to(np.float32(3), (2, 3)),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "float16": GRID.astype(np.float16),
    "float64": GRID,
    "big-endian": GRID.astype(">f4"),
    "int64": GRID.astype(np.int64),
    "int32": GRID.astype(np.int32),
    "uint8": GRID.astype(np.uint8),
    "bool": GRID > 5,
    "nan-inf": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
    "numpy-scalar": np.float32(1.5),
    "list": [1.0, 2.0],
    "name/with.dots and spaces": np.ones(2),
}  # fmt: skip


@pytest.mark.scenario("B24")
@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip_of_an_array(name, path):
    array = ARRAYS[name]
    before = np.array(array)
    weights.save({name: array, "other": np.ones(1, np.float32)}, path)
    assert_same({name: before, "other": np.ones(1, np.float32)}, weights.read(path))
    np.testing.assert_array_equal(array, before)


def test_round_trip_of_all_at_once(path):
    weights.save(ARRAYS, path)
    assert_same(ARRAYS, weights.read(path))


@pytest.mark.scenario("B24")
def test_read_only_arrays(path):
    array = GRID.T.copy().T
    array.setflags(write=False)
    weights.save({"a": array}, path)
    assert_same({"a": array}, weights.read(path))


@pytest.mark.scenario("B24")
@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    ),
    data=st.data(),
)  # fmt: skip
def test_round_trip_of_any_view(suffix, tmp_path, array, data):
    axes = data.draw(st.permutations(range(array.ndim)))
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in range(array.ndim))
    view = array.transpose(axes)[steps]
    path = tmp_path / f"view{suffix}"
    weights.save({"view": view}, path)
    assert_same({"view": view}, weights.read(path))


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "self"])
def test_any_name_will_do(name, path):
    weights.save({name: np.ones(2)}, path)
    assert_same({name: np.ones(2)}, weights.read(path))


def test_a_model_without_parameters(path):
    model = Sequential(Flatten(), input_shape=(2, 2))
    weights.save(model, path)
    assert weights.read(path) == {}
    weights.load(model, path)


def test_what_is_read_belongs_to_the_reader(path):
    weights.save({"a": np.ones(3)}, path)
    first = weights.read(path)["a"]
    first += 1
    np.testing.assert_array_equal(weights.read(path)["a"], 1)


def test_formats_are_told_apart_by_content(tmp_path):
    weights.save({"a": np.ones(3)}, tmp_path / "a.npz")
    os.rename(tmp_path / "a.npz", tmp_path / "a.weights")
    assert_same({"a": np.ones(3)}, weights.read(tmp_path / "a.weights"))


def test_metadata(tmp_path):
    weights.save({"a": np.ones(3)}, tmp_path / "a.safetensors", {"note": "mine"})
    assert read_metadata(tmp_path / "a.safetensors")["note"] == "mine"
    with pytest.raises(ValueError, match=r"\.npz file cannot hold metadata"):
        weights.save({"a": np.ones(3)}, tmp_path / "a.npz", {"note": "mine"})
    assert not (tmp_path / "a.npz").exists()


def test_an_array_under_another_name_or_shape_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save({"bias": np.ones(12)}, path)
    content = path.read_bytes()
    for old, new in (
        (b'"bias":{"dtype"', b'"gain":{"dtype"'),
        (b'"shape":[12]', b'"shape":[12,1]'),
        (b"F64", b"I64"),
    ):
        changed = content.replace(old, new)
        grown = len(changed) - len(content)
        path.write_bytes((int.from_bytes(content[:8], "little") + grown).to_bytes(8, "little") + changed[8:])
        with pytest.raises(WeightsError, match="than were written"):
            weights.read(path)


@pytest.mark.parametrize("name", ["w.h5", "w", "w.npy", "w.safetensors.bak"])
def test_unknown_suffix(name, tmp_path):
    with pytest.raises(WeightsError, match=r"suffix must be \.safetensors or \.npz"):
        weights.save(make_model(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["text"]), {"nested": 1}], ids=["object", "text", "dict"]
)
def test_what_is_no_number_is_refused(value, path):
    with pytest.raises((ValueError, TypeError), match="bad"):
        weights.save({"fine": np.ones(2), "bad": value}, path)
    assert not list(path.parent.iterdir())


# Whole or not at all


class Crash(BaseException):
    pass


def leftovers(path):
    return [p.name for p in path.parent.iterdir() if p.name != path.name]


@pytest.mark.scenario("F2", "F4")
@pytest.mark.parametrize("error", [OSError(errno.EIO, "input/output error"), OSError(errno.ENOSPC, "full"), Crash(), KeyboardInterrupt()], ids=["eio", "full", "crash", "ctrl-c"])  # fmt: skip
@pytest.mark.parametrize("point", ["write", "fsync", "chmod", "replace"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_crash_leaves_the_old_file(point, error, exists, path, monkeypatch):
    old = make_model(1)
    if exists:
        weights.save(old, path)
    content = path.read_bytes() if exists else None

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        if point == "write":

            def write_half(temporary):
                temporary.write_bytes(b"half of i")
                raise error

            with pytest.raises(type(error)):
                write_atomically(path, write_half)
        else:
            patch.setattr(os, point, fail)
            with pytest.raises(type(error)):
                weights.save(make_model(2), path)
    assert leftovers(path) == []
    assert path.exists() == exists and (not exists or path.read_bytes() == content)
    weights.save(make_model(3), path)
    assert_same(make_model(3).state_dict(), weights.read(path))


def test_the_library_that_fails_half_way(path, monkeypatch):
    weights.save(make_model(1), path)
    content = path.read_bytes()

    def half(*args, **kwargs):
        target = next(a for a in args if isinstance(a, (str, os.PathLike)) or hasattr(a, "write"))
        if hasattr(target, "write"):
            target.write(b"half")
        else:
            Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", half)
    monkeypatch.setattr("numpy.lib.format.write_array", half)
    with pytest.raises(OSError, match="No space left"):
        weights.save(make_model(2), path)
    assert path.read_bytes() == content and leftovers(path) == []


def test_the_file_is_on_the_disk_before_it_gets_its_name(path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: order.append(name) or real(*a))
    weights.save(make_model(), path)
    assert order == ["fsync", "replace", "fsync"]  # the data, the name, the folder


DISK_FULL = """
import resource, signal, sys, numpy as np
from minidl import weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    weights.save({"a": np.ones(100_000)}, sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.scenario("F3")
def test_disk_full(path):
    weights.save({"a": np.zeros(3)}, path)
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(path)],
        cwd=Path(dl.__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "large" in done.stdout.lower() or "os error 27" in done.stdout.lower(), done.stdout + done.stderr
    assert_same({"a": np.zeros(3)}, weights.read(path))
    assert leftovers(path) == []


@pytest.mark.scenario("F7")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_umask(umask, path):
    before = os.umask(umask)
    try:
        weights.save({"a": np.ones(1)}, path)
        assert os.umask(umask) == umask  # put back
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.scenario("F7")
def test_permissions_of_the_old_file_are_kept(path):
    weights.save({"a": np.ones(1)}, path)
    path.chmod(0o640)
    weights.save({"a": np.zeros(1)}, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.scenario("F7")
def test_a_symbolic_link_is_followed(path):
    real = path.parent / "elsewhere" / f"real{path.suffix}"
    real.parent.mkdir()
    path.symlink_to(real)
    weights.save({"a": np.ones(1)}, path)  # dangling: makes the target
    weights.save({"a": np.zeros(1)}, path)
    assert path.is_symlink() and not real.is_symlink()
    assert_same({"a": np.zeros(1)}, weights.read(real))
    assert [p.name for p in real.parent.iterdir()] == [real.name]


def test_missing_folder(path):
    target = path.parent / "missing" / path.name
    with pytest.raises(OSError, match=r"folder .*missing does not exist"):
        weights.save(make_model(), target)


@pytest.mark.scenario("F8")
def test_a_folder_as_target(path):
    path.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        weights.save(make_model(), path)
    assert path.is_dir() and leftovers(path) == []


@pytest.mark.scenario("F8")
def test_a_pipe_as_target(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        weights.save(make_model(), path)
    assert stat.S_ISFIFO(path.stat().st_mode)


# Damaged files


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        weights.read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x00" * 64,
        b"not weights at all",
        b"\xff" * 100,
        b"\x93NUMPY\x01\x00v\x00{'descr'",
    ],
)
def test_files_of_another_kind(content, path):
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        weights.read(path)
    assert str(path) in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.scenario("B10", "B25")
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated(share, path):
    weights.save(make_model(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    model = make_model(5)
    before = model.state_dict()
    with pytest.raises(WeightsError, match="cannot read weights from"):
        weights.load(model, path)
    assert_same(before, model.state_dict())


@pytest.mark.scenario("B26")
def test_a_flipped_bit_in_the_archive(tmp_path):
    path = tmp_path / "w.npz"
    weights.save({"a": np.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="CRC"):
        weights.read(path)


@pytest.mark.scenario("B27")
def test_pickled_objects_are_refused_and_not_run(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    path = tmp_path / "w.npz"
    with open(path, "wb") as file:
        np.savez(file, a=np.array([Evil()], dtype=object))
    canary.unlink(missing_ok=True)
    with pytest.raises(WeightsError):
        weights.read(path)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_damage_of_any_kind_gives_one_kind_of_error(suffix, tmp_path, data):
    path = tmp_path / f"fuzz{suffix}"
    weights.save({"a": np.ones(4, np.float32), "b": np.zeros((2, 2))}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if change == "flip" and content:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        else:
            content[at:at] = data.draw(st.binary(max_size=9))
    path.write_bytes(content)
    try:
        state = weights.read(path)
    except WeightsError:
        return
    assert all(isinstance(value, np.ndarray) for value in state.values())


# Loading into a model


@pytest.mark.scenario("B56", "B57")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("head.bias"), ["missing: head.bias"]),
        (lambda s: s.update(extra=np.ones(1)), ["surplus: extra"]),
        (lambda s: s.update({"head.bias": np.ones(9)}), ["wrong shape: head.bias", "(3,)", "(9,)"]),
        (lambda s: (s.pop("head.bias"), s.update(extra=np.ones(1))), ["missing: head.bias", "surplus: extra"]),
    ],
    ids=["missing", "unknown", "shape", "two"],
)  # fmt: skip
def test_wrong_names_load_nothing(change, words, path):
    state = make_model(1).state_dict()
    change(state)
    weights.save(state, path)
    model = make_model(2)
    before = model.state_dict()
    with pytest.raises(WeightsError, match="nothing was loaded") as caught:
        weights.load(model, path)
    assert all(word in str(caught.value) for word in words)
    assert_same(before, model.state_dict())


def test_loading_a_dict():
    a, b = make_model(1), make_model(2)
    weights.load(b, a.state_dict())
    assert_same(a.state_dict(), b.state_dict())


@pytest.mark.scenario("B60")
def test_another_number_of_classes(path):
    weights.save(make_model(classes=5), path)
    with pytest.raises(
        WeightsError, match=r"wrong shape: head\.weight \(18, 3\), but head\.weight \(18, 5\)"
    ):
        weights.load(make_model(classes=3), path)

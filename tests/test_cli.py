"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import minidl as dl
from minidl import weights
from minidl.cli import main


@pytest.fixture(autouse=True)
def empty(monkeypatch, tmp_path):
    """No data at all, no network."""
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    monkeypatch.setenv("MINIDL_OFFLINE", "1")


def test_info(capsys, tmp_path):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("-"))
    assert list(facts) == ["minidl", "processor", "BLAS", "kernels", "GPU", "data", "cache"]
    assert dl.__version__ in facts["minidl"]
    assert facts["data"] == "MINIDL_DATA is not set"
    assert facts["cache"] == f"{tmp_path}, offline"
    assert facts["GPU"] != "none in use" or "for a GPU: " in out


def test_info_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    dl.kernels.use("reference")
    monkeypatch.setenv("MINIDL_DATA", "no such folder")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "plain NumPy" in out
    assert "numba and threadpoolctl: pip install 'minidl[fast]'" in out
    assert "which is no folder" in out


def test_info_says_what_holds_blas_back(capsys, monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    main(["info"])
    assert "CORETYPE" not in capsys.readouterr().out
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    main(["info"])
    assert "- OPENBLAS_CORETYPE=Haswell holds matrix products" in capsys.readouterr().out


def test_convert_and_inspect(capsys, tmp_path):
    source, target = tmp_path / "w.npz", str(tmp_path / "w.safetensors")
    np.savez(source, **{"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(3)})
    assert main(["convert", str(source), target]) == 0
    assert main(["inspect", target]) == 0
    out = capsys.readouterr().out
    assert "2 arrays, 9 numbers, 48 bytes" in out
    assert "fc.weight  (2, 3)  float32" in out
    assert main(["inspect", target, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in record["arrays"]] == ["fc.bias", "fc.weight"]
    assert main(["inspect", str(tmp_path / "none")]) == 1
    (tmp_path / "bad").write_bytes(b"?")
    assert main(["inspect", str(tmp_path / "bad")]) == 1
    assert "cannot read weights from" in capsys.readouterr().err


@pytest.mark.scenario("B76")
def test_convert_keeps_a_file_that_exists(capsys, tmp_path):
    source, target = str(tmp_path / "w.npz"), tmp_path / "w.safetensors"
    weights.save({"a": np.ones(2)}, source)
    target.write_bytes(b"mine")
    assert main(["convert", source, str(target)]) == 1
    assert "w.safetensors exists; say --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert main(["convert", source, str(target), "--overwrite"]) == 0
    assert set(weights.read(target)) == {"a"}


@pytest.mark.scenario("B73")
@pytest.mark.parametrize(
    "arguments", [["convert", "a", "b", "--overwite"], ["datasets", "gett", "mnist"], ["info", "--jsn"]]
)
def test_unknown_options_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: minidl" in capsys.readouterr().err


def test_list(capsys):
    assert main(["datasets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "WHERE", "TITLE"]
    assert {line.split()[0] for line in lines[1:]} >= {
        "mnist",
        "fashion_mnist",
        "cifar10",
        "svhn",
        "emnist/letters",
    }
    assert all(line.split()[1] == "missing" for line in lines[1:])


def test_path(capsys, tmp_path):
    assert main(["datasets", "path", "mnist"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "mnist")


def test_get_without_network(capsys):
    assert main(["datasets", "get", "mnist"]) == 1
    error = capsys.readouterr().err
    assert "MINIDL_OFFLINE forbids the download" in error
    assert len(error.splitlines()) == 1


def test_verify_missing_and_altered_files(capsys, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/t10k-labels-idx1-ubyte.gz").write_bytes(b"altered")
    assert main(["datasets", "verify", "mnist"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("WRONG") for line in lines)
    assert sum(line.endswith("missing") for line in lines) == 3
    assert "4542" in next(line for line in lines if "t10k-labels" in line)  # the bytes there should be


@pytest.mark.scenario("B73")
def test_unknown_name_is_a_usage_error(capsys):
    assert main(["datasets", "get", "mnits"]) == 2
    assert "did you mean 'mnist'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["datasets"], ["datasets", "get"], ["nonsense"]])
def test_incomplete_commands(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: minidl" in capsys.readouterr().err


def test_module_and_version():
    result = subprocess.run(
        [sys.executable, "-m", "minidl", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"minidl {dl.__version__}\n"

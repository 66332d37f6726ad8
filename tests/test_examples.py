"""The examples run, print what they say they print, and the README agrees with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache for all examples, so that the glyphs are drawn once."""
    return tmp_path_factory.mktemp("cache")


def run(name, *arguments, cache, code=0, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "MINIDL_DATA"}
    environment |= {
        "MINIDL_OFFLINE": "1",
        "MINIDL_CACHE": str(cache),
        "COVERAGE_PROCESS_START": "",
        **variables,
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cache,
        check=False,
        timeout=120,
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result


def promised(source):
    """What the comments behind the print calls say."""
    return re.findall(r"^print\(.*\)  # (.+)$", source, re.MULTILINE)


def test_hello_autograd_prints_what_it_says(cache):
    source = (ROOT / "examples/hello_autograd.py").read_text()
    printed = [line[8:] for line in run("hello_autograd.py", cache=cache).stdout.splitlines()]
    assert printed == promised(source)


def test_readme_shows_the_example():
    source = (ROOT / "examples/hello_autograd.py").read_text()
    assert source.partition('"""\n\n')[2] in README


def test_training_by_hand_learns(cache):
    lines = run("training_by_hand.py", cache=cache).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}" for i in range(1, 6)]
    assert "lr 0.01" in lines[3]
    assert float(re.search(r"accuracy ([\d.]+)%", lines[-1])[1]) > 97


def test_mnist_cnn_on_glyphs(cache, tmp_path):
    record = tmp_path / "record.json"
    out = run(
        "mnist_cnn.py",
        "--epochs",
        2,
        "--samples",
        2000,
        "--out",
        tmp_path / "run",
        "--record",
        record,
        cache=cache,
    )
    text = out.stdout
    assert text.count("using glyphs") == 1
    for total in ("Total params: 184,458", "Trainable params: 184,266", "Non-trainable params: 192"):
        assert total in text
    assert re.search(r"Epoch 2/2 - \d+s - \d+ms/step - loss: [\d.]+ - accuracy: [\d.]+ - val_loss", text)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "history.csv",
        "report.html",
        "result.json",
        "weights.safetensors",
    }
    figures = json.loads(record.read_text())
    assert figures["history"]["accuracy"][-1] > 0.5  # batch norm's averages still lag in validation
    assert figures["settings"]["data"] == "glyphs"
    assert len(figures["history"]["val_loss"]) == 2
    assert figures["environment"]["numpy"]


def test_mnist_cnn_without_a_gpu_says_so(cache):
    result = run("mnist_cnn.py", "--device", "cuda", cache=cache, code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "device 'cuda' needs" in result.stderr


def test_mnist_cnn_with_a_wrong_data_folder_says_so(cache, tmp_path):
    (tmp_path / "mnist").mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"mnist/{part}-ubyte.gz").write_bytes(b"not what it should be")
    result = run("mnist_cnn.py", "--samples", 256, cache=cache, code=2, MINIDL_DATA=str(tmp_path))
    assert "train-images-idx3-ubyte.gz" in result.stderr
    assert "glyphs" not in result.stdout


def test_results_in_the_readme_come_from_the_records(cache):
    assert "up to date" in run("update_readme.py", "--check", cache=cache).stdout


def test_readme_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "examples/README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_commands_are_found_by_ci(tmp_path):
    script = ROOT / ".ci/readme_command.py"
    for name, words in (("run", "examples/mnist_cnn.py"), ("test", "pytest")):
        command = subprocess.run(
            [sys.executable, script, name, tmp_path], capture_output=True, text=True, check=True
        ).stdout
        assert words in command
        assert str(tmp_path) in command
        assert ".venv" not in command


def test_pages_of_benchmarks_are_generated():
    """What README.md and benchmarks/README.md say of speed is in the recorded runs."""
    command = [sys.executable, "-m", "benchmarks.update_readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_weights(tmp_path):
    """Five classes a picture; one line and exit code 2 where there are no weights."""
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (60, 40), (200, 30, 30)).save(tmp_path / "red.png")
    command = [sys.executable, str(ROOT / "examples/import_weights.py"), str(tmp_path / "red.png")]
    done = subprocess.run([*command, "--weights", "none.npz"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("import_weights: ")
    assert "none.npz" in done.stderr
    if not (Path(os.environ.get("MINIDL_DATA", ".")) / "squeezenet").is_dir():
        pytest.skip("no squeezenet in MINIDL_DATA")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "red.png"
    assert len(lines) == 6
    assert all(re.match(r" +[\d.]+%  #* +\S", line) for line in lines[1:])

"""The report is one valid page that needs nothing else and shows what it was given."""

from __future__ import annotations

import base64
import getpass
import io
import json
import re
import socket
import sys
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minidl as dl
from minidl import environment as environment_module
from minidl.layers import Conv2D, Dense, Flatten
from minidl.report import environment, write_report

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = '"><script>alert("x")</script><img src=http://evil.example/a.png onerror=alert(1)>&amp;'
RECORD = {
    "loss": [1.5, 0.75],
    "accuracy": [0.5, 0.625],
    "val_loss": [1.25, 0.875],
    "val_accuracy": [0.75, 0.6875],
}


class Page(HTMLParser):
    """Tags, attributes, images and the text of a page; fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows = [], [], [], []
        self.images, self.texts, self.headings = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.rows.append((dict(attrs).get("class"), []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "h2" in self.open:
            self.headings.append(data)
        if "tr" in self.open:
            self.rows[-1][1].append(data)

    def text(self):
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def model():
    return dl.Sequential(Conv2D(4, 3), Flatten(), Dense(3), input_shape=(6, 6, 1))


def write(folder, model, **changes):
    """A report of everything, less or other than `changes`; as text and as Page."""
    rng = np.random.default_rng(0)
    arguments = {
        "model": model,
        "history": SimpleNamespace(history=RECORD, seconds=[2.0, 4.0]),
        "settings": {"optimizer": "Adam", "batch_size": 32},
        "x_test": rng.integers(0, 256, (8, 6, 6, 1), dtype=np.uint8),
        "y_test": np.array([0, 1, 2, 0, 1, 2, 0, 1]),
        "predictions": np.eye(3)[[0, 1, 2, 0, 1, 2, 1, 2]],
        "class_names": ["ant", "bee", "cat"],
        "title": "A run",
    }
    write_report(folder / "report.html", **(arguments | changes))
    html = (folder / "report.html").read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def full(tmp_path_factory, model):
    return write(tmp_path_factory.mktemp("report"), model, results={"test accuracy": 0.75, "test loss": 0.5})


def cards(html):
    return dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", html))


def test_every_section_is_there(full):
    assert full[1].headings == [
        "Settings",
        "Environment",
        "Model",
        "Learning curves",
        "Epochs",
        "Confusion matrix",
        "Predictions",
        "First filters",
    ]


def test_headline_shows_the_results_and_what_follows_from_the_history(full, model):
    assert cards(full[0]) == {
        "test accuracy": "75.00%",
        "test loss": "0.5000",
        "best validation accuracy": "75.00%",
        "best validation loss": "0.8750",
        "parameters": f"{sum(p.size for p in model.parameters()):,}",
        "epochs": "2",
        "seconds per epoch": "3.000",
    }


def test_the_page_holds_settings_and_summary(full, model):
    text = full[1].text()
    assert dl.summary(model) in text
    assert "A run" in text
    rows = [cells for _, cells in full[1].rows]
    assert ["optimizer", "Adam"] in rows
    assert ["batch size", "32"] in rows
    assert ["numpy", np.__version__] in rows


def test_the_table_of_epochs_holds_the_history_and_marks_the_best(full):
    rows = full[1].rows
    assert (None, ["epoch", "loss", "accuracy", "val loss", "val accuracy", "seconds"]) in rows
    assert ("best", ["1", "1.500", "50.00%", "1.250", "75.00%", "2.000"]) in rows
    assert (None, ["2", "0.7500", "62.50%", "0.8750", "68.75%", "4.000"]) in rows


def test_images_are_inline_png(full):
    assert [image["alt"] for image in full[1].images] == [
        "learning curves",
        "confusion matrix",
        "wrong and right predictions",
        "filters of the first convolution",
    ]
    from matplotlib.image import imread

    for image in full[1].images:
        head, _, data = image["src"].partition(",")
        assert head == "data:image/png;base64"
        pixels = imread(io.BytesIO(base64.b64decode(data, validate=True)), format="png")
        assert pixels.shape[1] == pytest.approx(2 * int(image["width"]), abs=2)
        assert pixels.shape[0] == pytest.approx(2 * int(image["height"]), abs=2)
        assert np.ptp(pixels[..., :3]) > 0.9  # something is drawn


def test_the_page_needs_nothing_else(full):
    html, page = full
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)
    assert "url(" not in html
    assert "@import" not in html
    assert all(
        value.startswith("data:") for name, value in page.attributes if name in ("src", "href", "srcset")
    )


def test_hostile_text_is_escaped_everywhere(tmp_path, model):
    html, page = write(
        tmp_path,
        model,
        title=HOSTILE,
        settings={HOSTILE: HOSTILE},
        results={HOSTILE: HOSTILE},
        class_names=[HOSTILE, "$x", "\x00\n"],
        history={HOSTILE: [1.0], **RECORD},
    )
    assert "script" not in page.tags
    assert "onerror" not in dict(page.attributes)
    assert "<script" not in html
    assert page.texts.count(HOSTILE) == 7  # title, h1, setting and its name, result and its name, column


def test_a_name_of_the_model_is_escaped(tmp_path):
    _, page = write(tmp_path, dl.Sequential(Dense(3), input_shape=(4,), name="<b>"), x_test=None)
    assert 'Model: "<b>"' in page.text()
    assert "b" not in page.tags


def test_without_test_data_the_parts_that_need_it_are_left_out(tmp_path, model):
    _, page = write(tmp_path, model, predictions=None)
    assert page.headings[-2:] == ["Epochs", "First filters"]
    _, page = write(tmp_path, model, x_test=None)
    assert page.headings[-2:] == ["Confusion matrix", "First filters"]


def test_flat_data_regression_and_models_without_convolution(tmp_path):
    model = dl.Sequential(Flatten(), Dense(3), input_shape=(36,))
    _, page = write(tmp_path, model, x_test=np.zeros((8, 36)))
    assert page.headings[-1] == "Confusion matrix"
    _, page = write(tmp_path, model, y_test=np.zeros(8), predictions=np.zeros((8, 1)))
    assert page.headings[-1] == "Epochs"


def test_a_model_that_was_never_called_and_a_history_that_is_empty(tmp_path):
    html, page = write(tmp_path, dl.Sequential(Dense(3)), history={}, x_test=None)
    assert page.headings == ["Settings", "Environment", "Model", "Confusion matrix"]
    assert "Dense(" in page.text()
    assert cards(html)["epochs"] == "0"


def test_accuracy_on_the_test_set_is_counted_if_it_is_not_given(tmp_path, model):
    html, _ = write(tmp_path, model, x_test=None)
    assert cards(html)["test accuracy"] == "75.00%"


def test_a_diverged_run_can_be_reported(tmp_path, model):
    html, _ = write(tmp_path, model, history={"loss": [1.0, np.nan], "val_loss": [np.nan, np.inf]})
    assert "best validation loss" not in cards(html)
    assert "<td>nan</td><td>inf</td>" in html


def test_many_epochs_are_folded(tmp_path, model):
    assert "<details open>" in write(tmp_path, model, y_test=None)[0]
    assert "<details>" in write(tmp_path, model, history={"loss": [1.0] * 26}, y_test=None)[0]


def test_data_that_do_not_fit_leave_no_file(tmp_path, model):
    with pytest.raises(dl.ShapeError, match="N is 7 in labels"):
        write(tmp_path, model, y_test=np.zeros(7, int))
    assert not list(tmp_path.iterdir())


def test_a_failed_report_keeps_the_old_one(tmp_path, model, monkeypatch):
    write(tmp_path, model, y_test=None)
    before = (tmp_path / "report.html").read_bytes()

    def full_disk(self, *_args, **_kwargs):
        self.write_bytes(b"<half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, model, y_test=None, title="another")
    assert (tmp_path / "report.html").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_missing_matplotlib_is_said_before_anything_is_written(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'minidl\[plot\]'"):
        write(tmp_path, model)
    assert not list(tmp_path.iterdir())


# Environment ----------------------------------------------------------------------------------------


def test_environment_is_ready_for_json_and_private():
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert list(facts)[:9] == [
        "date", "minidl", "python", "numpy", "blas", "blas_threads", "platform", "cpu", "cores",
    ]  # fmt: skip
    assert facts["minidl"] == dl.__version__
    assert facts["numpy"] == np.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert datetime.fromisoformat(facts["date"]).tzinfo is not None
    assert facts["cores"] >= 1
    assert all(facts[key] for key in ("blas", "platform", "cpu"))
    words = re.split(r"[^\w.-]+", json.dumps(facts))
    assert getpass.getuser() not in words
    assert socket.gethostname() not in words
    assert not re.search(r"(?<!\w)/\w", json.dumps(facts))  # a path, but not "w/ Radeon"


def test_environment_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    facts = environment()
    assert facts["blas"]
    assert facts["blas_threads"] is None


def test_environment_tells_the_threads_of_numpys_own_blas(monkeypatch):
    pools = [
        {
            "user_api": "openmp",
            "internal_api": "gomp",
            "version": None,
            "num_threads": 9,
            "filepath": "numpy/x",
        },
        {"user_api": "blas", "internal_api": "mkl", "version": "7", "num_threads": 8, "filepath": "scipy/x"},
        {
            "user_api": "blas",
            "internal_api": "openblas",
            "version": "0.3",
            "num_threads": 3,
            "filepath": "numpy/x",
        },
    ]
    monkeypatch.setitem(sys.modules, "threadpoolctl", SimpleNamespace(threadpool_info=lambda: pools))
    facts = environment()
    assert facts["blas"].startswith("openblas 0.3")
    assert facts["blas_threads"] == 3


def test_environment_names_the_gpu_in_use(monkeypatch):
    runtime = SimpleNamespace(getDeviceProperties=lambda number: {"name": f"GPU number {number}".encode()})
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=1))
    cupy = SimpleNamespace(__version__="14.0", is_available=lambda: True, cuda=cuda)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    facts = environment()
    assert (facts["cupy"], facts["gpu"]) == ("14.0", "GPU number 1")
    cupy.is_available = lambda: False
    assert "gpu" not in environment()


def test_environment_without_proc(monkeypatch):
    def missing(*_args, **_kwargs):
        raise OSError("no such file")

    monkeypatch.setattr(environment_module.Path, "read_text", missing)
    assert environment()["cpu"]

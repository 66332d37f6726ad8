"""Downloads that are cut off, killed, stalled or have nowhere to go: real ones, from a local server."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import time

import pytest

from minidl import data
from minidl.data import DataError, download

FIRST = "train-images-idx3-ubyte.gz"
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the children take the registry over by fork")
no_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def send(handler, content, length):
    """The first `length` bytes of a file that claims to be whole."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:length])
    handler.wfile.flush()


@pytest.mark.scenario("F21")
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_f21_cut_at_any_byte(share, hosted):
    content = hosted.files[FIRST]
    for mirror in "ab":
        hosted.server.answers[f"/{mirror}/{FIRST}"] = lambda handler: send(
            handler, content, int(share * len(content))
        )
    with pytest.raises(DataError, match=FIRST):
        data.mnist()
    assert list(hosted.folder.iterdir()) == []
    hosted.serve("a")
    assert len(data.mnist()[0][0]) == 6


def _get(queue=None, limit=None):
    """In a child: fetch, perhaps with no more than `limit` bytes in any file; report what came of it."""
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        data.mnist()
    except DataError as error:
        queue.put(str(error))
    else:
        queue.put("")


@fork
@no_fork_warning
@pytest.mark.scenario("F22")
def test_f22_killed_while_downloading(hosted):
    hosted.serve("a")
    content, waiting = hosted.files[FIRST], multiprocessing.get_context("fork").Event()

    def stall(handler):
        send(handler, content, len(content) // 2)
        waiting.set()
        time.sleep(1)

    hosted.server.answers[f"/a/{FIRST}"] = stall
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_get, args=(context.Queue(),))
    child.start()
    assert waiting.wait(20)
    time.sleep(0.2)  # until what was sent is written
    os.kill(child.pid, signal.SIGKILL)
    child.join(20)
    assert not (hosted.folder / FIRST).exists()
    assert data.status("mnist").where == "missing"
    hosted.serve("a")
    assert len(data.mnist()[0][0]) == 6
    assert (hosted.folder / FIRST).read_bytes() == content


@pytest.mark.scenario("F22")
@pytest.mark.parametrize(
    "change", [lambda d: b"", lambda d: d[:-1], lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: d + b"x"]
)
def test_f22_presence_is_not_enough(change, hosted):
    """As a crash of something else might leave it: each read verifies."""
    hosted.serve("a")
    data.mnist()
    for name in hosted.files:
        (hosted.folder / name).write_bytes(change(hosted.files[name]))
    with pytest.warns(UserWarning, match="downloading it again"):
        assert len(data.mnist()[0][0]) == 6
    assert all((hosted.folder / name).read_bytes() == content for name, content in hosted.files.items())


@pytest.mark.scenario("F23")
def test_f23_the_message_has_both_checksums(hosted):
    import hashlib

    good = hosted.files[FIRST]
    bad = bytes([good[0] ^ 1]) + good[1:]
    hosted.serve("a")
    hosted.server.answers[f"/a/{FIRST}"] = bad
    with pytest.raises(DataError) as caught:
        data.mnist()
    for content in (good, bad):
        assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert str(hosted.folder) in str(caught.value) and f"/a/{FIRST}" in str(caught.value)
    assert not (hosted.folder / FIRST).exists()


@pytest.mark.scenario("F24")
@pytest.mark.parametrize("when", ["before the answer", "in the middle"])
def test_f24_a_stalled_server(when, hosted, monkeypatch):
    monkeypatch.setattr(download, "_CONNECT_AND_READ_TIMEOUT_S", (0.3, 0.3))
    content = hosted.files[FIRST]

    def stall(handler):
        if when == "in the middle":
            send(handler, content, 10)
        time.sleep(1)

    hosted.serve("a")
    hosted.serve("b")
    hosted.server.answers[f"/a/{FIRST}"] = stall
    assert len(data.mnist()[0][0]) == 6
    assert f"/b/{FIRST}" in hosted.server.requests


@pytest.mark.scenario("F25")
def test_f25_no_network(places, tiny_mnist, monkeypatch):
    """A port that nobody listens at answers at once, as a machine without a network does."""
    monkeypatch.delenv("MINIDL_OFFLINE")
    tiny_mnist(mirrors=("http://127.0.0.1:9/",))
    start = time.perf_counter()
    with pytest.raises(DataError) as caught:
        data.mnist()
    assert time.perf_counter() - start < 10
    for word in (FIRST, f"http://127.0.0.1:9/{FIRST}", str(places.cache / "mnist"), "MINIDL_DATA"):
        assert word in str(caught.value)


@fork
@no_fork_warning
@pytest.mark.scenario("F27")
def test_f27_full_disk(hosted, tmp_path, monkeypatch):
    """No file of the child may be longer than a part of the download."""
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", None)
    hosted.serve("a")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_get, args=(queue, 1000))
    child.start()
    message = queue.get(timeout=20)
    child.join(20)
    assert "File too large" in message and "MINIDL_CACHE" in message and FIRST in message
    assert not (hosted.folder / FIRST).exists() and list(elsewhere.iterdir()) == []
    assert [p for p in hosted.folder.iterdir() if p.name != FIRST] == []


@pytest.mark.scenario("F27")
def test_f27_no_other_folder_instead(hosted, places, tmp_path, monkeypatch):
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", None)
    places.cache.write_text("no folder")
    hosted.serve("a")
    with pytest.raises(DataError, match="set MINIDL_CACHE"):
        data.mnist()
    assert list(elsewhere.iterdir()) == [] and hosted.server.requests == []

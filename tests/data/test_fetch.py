"""Where files are looked for, and downloads that go wrong in every way."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minidl import data
from minidl.data import DataError, download, fetch
from minidl.data import places as places_module
from minidl.data.registry import Blob

LABELS = "t10k-labels-idx1-ubyte.gz"


def test_own_folder_comes_before_the_cache(places, tiny_mnist):
    tiny = tiny_mnist()
    tiny.write(places.own / "mnist")
    (places.cache / "mnist").mkdir(parents=True)
    (places.cache / "mnist" / LABELS).write_bytes(b"never looked at")
    assert len(data.mnist()[0][0]) == 6
    assert data.status("mnist").where == "here"


def test_cache_serves_without_own_folder(places, tiny_mnist, monkeypatch):
    tiny_mnist().write(places.cache / "mnist")
    assert len(data.mnist()[0][0]) == 6
    monkeypatch.delenv("MINIDL_DATA")
    assert len(data.mnist()[0][0]) == 6
    assert data.status("mnist").where == "cached" and data.path("mnist") == places.cache / "mnist"


def test_cache_folder_precedence(monkeypatch):
    monkeypatch.setenv("MINIDL_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert places_module.cache_folder() == Path("/a")
    monkeypatch.setenv("MINIDL_CACHE", "")
    assert places_module.cache_folder() == Path("/b/minidl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert places_module.cache_folder() == Path("/c/.cache/minidl")


@pytest.mark.scenario("F27")
def test_no_home_folder_names_the_variable(monkeypatch):
    monkeypatch.delenv("MINIDL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match="set MINIDL_CACHE"):
        data.mnist()


def test_own_folder_that_is_none(places, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(places.own / "typo"))
    with pytest.raises(DataError, match="typo', which is no folder"):
        data.mnist()


@pytest.mark.scenario("F25")
def test_missing_and_offline_says_everything(places):
    with pytest.raises(DataError) as caught:
        data.mnist()
    message = str(caught.value)
    for word in ("mnist", "train-images-idx3-ubyte.gz", "9912422", "sha256:440fcabf", "https://"):
        assert word in message
    for word in (str(places.own), str(places.cache), "MINIDL_OFFLINE", "MINIDL_DATA"):
        assert word in message
    assert "python -m minidl datasets get mnist" in message


@pytest.mark.parametrize("where", ["own", "cache"])
def test_truncated_and_altered_offline(where, places, tiny_mnist):
    folder = tiny_mnist().write(getattr(places, where) / "mnist")
    good = (folder / LABELS).read_bytes()
    for bad, reason in [
        (b"", "is truncated: expected {} bytes, found 0"),
        (good[:-1], "is truncated: expected {} bytes, found"),
        (good + b"x", "is too long: expected {} bytes"),
        (good[:-1] + bytes([good[-1] ^ 1]), "is altered: expected sha256"),
    ]:
        (folder / LABELS).write_bytes(bad)
        with pytest.raises(DataError) as caught:
            data.mnist()
        message = str(caught.value)
        assert reason.format(len(good)) in message and str(folder / LABELS) in message
        assert "datasets get mnist" in message and "MINIDL_CACHE" in message


def test_wrong_own_file_is_an_error_even_with_a_network(places, tiny_mnist, server):
    tiny = tiny_mnist(mirrors=(server.url + "/",))
    server.answers |= {f"/{n}": b for n, b in tiny.files.items()}
    folder = tiny.write(places.own / "mnist")
    (folder / LABELS).write_bytes(b"x")
    with pytest.raises(DataError, match="is truncated"):
        data.mnist()
    assert server.requests == []


def test_no_regular_file(places, tiny_mnist):
    folder = tiny_mnist().write(places.own / "mnist")
    (folder / LABELS).unlink()
    (folder / LABELS).mkdir()
    with pytest.raises(DataError, match="not a regular file"):
        data.mnist()
    (folder / LABELS).rmdir()
    (folder / LABELS).symlink_to("nowhere")
    with pytest.raises(DataError, match="not a regular file"):
        data.mnist()


def test_verify_and_list_report_every_file(places, tiny_mnist):
    folder = tiny_mnist().write(places.own / "mnist")
    assert [check.problem for check in data.verify("mnist")] == ["", "", "", ""]
    (folder / LABELS).write_bytes(b"x")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    checks = {check.file: check for check in data.verify("mnist")}
    assert "truncated" in checks[LABELS].problem and checks[LABELS].path == folder / LABELS
    assert checks["train-labels-idx1-ubyte.gz"].problem == "missing"
    assert checks["train-images-idx3-ubyte.gz"].problem == ""
    where = {line.name: line.where for line in data.list_datasets()}
    assert where["mnist"] == "partly" and where["svhn"] == "missing"


def test_locate_unknown_file():
    with pytest.raises(ValueError, match="has no file 'x'; it has train-images"):
        fetch.locate("mnist", "x")


# ------------------------------------------------------------------------------------------ downloads


def assert_only(folder: Path, names) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(names), "a stray or missing file"


def test_download_once(hosted):
    hosted.serve("a")
    (x, _y), _ = data.mnist()
    np.testing.assert_array_equal(x[..., 0], hosted.x_train)
    assert_only(hosted.folder, hosted.files)
    first = len(hosted.server.requests)
    data.mnist()
    assert len(hosted.server.requests) == first == 4
    assert [p.name for p in data.get("mnist")] == list(hosted.files)


def test_downloaded_file_is_readable_as_its_folder_is(hosted):
    hosted.serve("a")
    data.mnist()
    folder_mode = hosted.folder.stat().st_mode
    assert (hosted.folder / LABELS).stat().st_mode & 0o777 == folder_mode & 0o666


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)


def cut_without_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 5)


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def redirect(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


BAD_ANSWERS = {
    "404": 404,
    "500": 500,
    "html": b"<html>Log in to the network</html>",
    "empty": b"",
    "cut": cut,
    "cut without length": cut_without_length,
    "hang up": hang_up,
    "redirect to file": redirect("file:///etc/passwd"),
    "redirect loop": redirect("/a/" + "train-images-idx3-ubyte.gz"),
}


@pytest.mark.scenario("F21", "F24")
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_next_mirror_takes_over(answer, hosted):
    hosted.server.answers |= {f"/a/{name}": answer for name in hosted.files}
    hosted.serve("b")
    assert len(data.mnist()[0][0]) == 6
    assert_only(hosted.folder, hosted.files)


@pytest.mark.scenario("F21", "F24")
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_all_mirrors_bad_is_one_error_and_a_retry_works(answer, hosted):
    hosted.server.answers |= {f"/{m}/{name}": answer for m in "ab" for name in hosted.files}
    with pytest.raises(DataError) as caught:
        data.mnist()
    message = str(caught.value)
    assert message.count(hosted.server.url) >= 2 and "train-images-idx3-ubyte.gz" in message
    assert str(hosted.folder) in message
    assert_only(hosted.folder, [])
    hosted.serve("a")
    assert len(data.mnist()[0][0]) == 6


@pytest.mark.scenario("F24")
def test_page_instead_of_a_file_is_not_even_read(hosted):
    hosted.server.answers |= {f"/{m}/{name}": b"<html></html>" for m in "ab" for name in hosted.files}
    with pytest.raises(DataError, match="it offers 13 bytes, expected "):
        data.mnist()


@pytest.mark.scenario("F23")
def test_altered_download_is_refused(hosted):
    hosted.serve("a", change=lambda d: d[:-1] + bytes([d[-1] ^ 1]))
    with pytest.raises(DataError, match=r"(?s)no mirror gave train-images.*does not match"):
        data.mnist()
    assert_only(hosted.folder, [])


@pytest.mark.scenario("F22")
def test_wrong_file_in_cache_is_fetched_again(hosted):
    hosted.serve("a")
    hosted.write(hosted.folder)
    (hosted.folder / LABELS).write_bytes(b"half a downlo")
    with pytest.warns(UserWarning, match=r"is truncated.*downloading it again"):
        assert len(data.mnist()[1][1]) == 4
    assert hosted.server.requests == [f"/a/{LABELS}"]
    assert (hosted.folder / LABELS).read_bytes() == hosted.files[LABELS]


@pytest.mark.scenario("F22")
def test_left_over_temporary_files_are_not_data(hosted):
    hosted.folder.mkdir(parents=True)
    (hosted.folder / "tmpabc123").write_bytes(b"half")
    hosted.serve("a")
    assert len(data.mnist()[0][0]) == 6


@pytest.mark.scenario("F23")
def test_no_http_after_wrong_bytes_over_https(monkeypatch, places, tiny_mnist):
    tiny_mnist(mirrors=("https://one.test/", "http://two.test/"))
    monkeypatch.delenv("MINIDL_OFFLINE")
    tried = []

    def retrieve(url, blob, path):
        tried.append(url)
        return ValueError("hash")

    monkeypatch.setattr(download, "_retrieve", retrieve)
    with pytest.raises(DataError, match=r"(?s)http://two.test/.*not tried"):
        data.mnist()
    assert tried == ["https://one.test/train-images-idx3-ubyte.gz"]


@pytest.mark.scenario("F24")
def test_redirect_from_https_to_http_is_refused():
    import requests

    def response(url, location):
        return SimpleNamespace(url=url, is_redirect=True, headers={"location": location})

    for url, location in [
        ("https://a.test/x", "http://a.test/x"),
        ("https://a.test/x", "file:///etc/passwd"),
        ("http://a.test/x", "ftp://a.test/x"),
    ]:
        with pytest.raises(requests.RequestException, match="redirects to"):
            download.refuse(response(url, location), Blob())
    for url, location in [
        ("https://a.test/x", "https://b.test/x"),
        ("https://a.test/x", "/y"),
        ("http://a.test/x", "https://a.test/x"),
    ]:
        download.refuse(response(url, location), Blob())


@pytest.mark.scenario("F27")
def test_cache_that_cannot_be_written(hosted, places, monkeypatch):
    places.cache.write_text("a file where the folder should be")
    hosted.serve("a")
    with pytest.raises(DataError, match=r"cache folder .* cannot be written .*set MINIDL_CACHE"):
        data.mnist()
    assert hosted.server.requests == []


@pytest.mark.scenario("F27")
def test_full_disk(hosted, monkeypatch):
    import pooch

    hosted.serve("a")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch, "retrieve", full)
    with pytest.raises(DataError, match=r"No space left.*MINIDL_CACHE to a folder with room"):
        data.mnist()


@pytest.fixture
def hosted_cifar(server, tiny_cifar, monkeypatch, places):
    """A tiny CIFAR-10 whose binary archive the server has."""
    dataset = data.DATASETS["cifar10"]
    parts = []
    for part in dataset.parts:
        forms = [
            replace(f, archive=replace(f.archive, mirrors=(server.url + "/",))) if f.archive else f
            for f in part.forms
        ]
        parts.append(replace(part, forms=tuple(forms)))
    monkeypatch.setitem(data.DATASETS, "cifar10", replace(dataset, parts=tuple(parts)))
    server.answers["/cifar-10-binary.tar.gz"] = tiny_cifar.tars["binary"]
    tiny_cifar.server, tiny_cifar.folder = server, places.cache / "cifar-10"
    return tiny_cifar


def test_archive_is_downloaded_and_read_in_place(hosted_cifar):
    (x, _), _ = data.cifar10()
    np.testing.assert_array_equal(x, hosted_cifar.x[:5].reshape(15, 32, 32, 3))
    assert hosted_cifar.server.requests == ["/cifar-10-binary.tar.gz"]
    assert_only(hosted_cifar.folder, ["cifar-10-binary.tar.gz"])


def test_wrong_file_of_another_form_is_set_aside(hosted_cifar):
    hosted_cifar.folder.mkdir(parents=True)
    for name, content in hosted_cifar.xz.items():
        (hosted_cifar.folder / f"{name}.xz").write_bytes(content)
    (hosted_cifar.folder / "data_batch_2.xz").write_bytes(b"not xz")
    with pytest.warns(UserWarning, match="downloading it again"):
        (x, _), _ = data.cifar10()
    np.testing.assert_array_equal(x, hosted_cifar.x[:5].reshape(15, 32, 32, 3))
    assert (hosted_cifar.folder / "data_batch_2.xz.wrong").read_bytes() == b"not xz"


def _fetch_in_child(barrier, queue) -> None:
    barrier.wait(10)
    queue.put(int(data.mnist()[0][0].sum()))


@pytest.mark.scenario("F26")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children take the registry over by fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_fetch_at_once(hosted):
    hosted.serve("a")
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    children = [context.Process(target=_fetch_in_child, args=(barrier, queue)) for _ in range(2)]
    for child in children:
        child.start()
    sums = [queue.get(timeout=20) for _ in children]
    for child in children:
        child.join(20)
    assert sums == [int(hosted.x_train.sum())] * 2
    assert_only(hosted.folder, hosted.files)

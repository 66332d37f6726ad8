"""What the figures show is what the data say; warnings are errors in this suite, so drawing gives none."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import minidl as dl
from minidl import plot
from minidl.layers import Conv2D, Dense, Flatten

RECORD = {
    "loss": [1.0, 0.5, 0.25],
    "accuracy": [0.5, 0.75, 0.875],
    "val_loss": [0.9, 0.6, 0.7],
    "val_accuracy": [0.6, 0.8, 0.7],
}
# The model's choices: 0, 1, 1, 2, 0. Samples 2 and 4 are wrong, 4 with the higher probability.
LABELS = np.array([0, 1, 2, 2, 1])
LOGITS = np.log(
    [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]],
).astype(np.float32)


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def inside(figure):
    """Whether all text lies within the figure: nothing is cut off."""
    figure.canvas.draw()
    page, renderer = figure.bbox, figure.canvas.get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= page.width and b.y1 <= page.height for b in boxes)


# Curves ---------------------------------------------------------------------------------------------


def test_curves_draw_the_history_from_epoch_one():
    figure = plot.curves(RECORD, title="two $ signs $")
    assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy"]
    for ax, key in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation = ax.lines[:2]
        assert list(training.get_xdata()) == list(validation.get_xdata()) == [1, 2, 3]
        assert list(training.get_ydata()) == RECORD[key]
        assert list(validation.get_ydata()) == RECORD[f"val_{key}"]
        assert [t.get_text() for t in ax.get_legend().get_texts()][:2] == ["training", "validation"]
    assert inside(figure)


def test_curves_mark_lowest_loss_and_highest_accuracy():
    loss, accuracy = (ax.lines[2] for ax in plot.curves(RECORD).axes)
    assert (list(loss.get_xdata()), list(loss.get_ydata())) == ([2], [0.6])
    assert (list(accuracy.get_xdata()), list(accuracy.get_ydata())) == ([2], [0.8])
    assert loss.get_label() == "best: 0.6, epoch 2"
    assert accuracy.get_label() == "best: 80.00%, epoch 2"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 100])
def test_curves_have_whole_epochs_on_the_axis(epochs):
    figure = plot.curves({"loss": list(np.linspace(1, 0, epochs))})
    figure.canvas.draw()
    (ax,) = figure.axes
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) >= 1 for tick in ticks)
    assert low < 1
    assert high > epochs


def test_curves_without_validation_or_accuracy():
    (ax,) = plot.curves({"loss": [1.0, 0.5], "accuracy": []}).axes
    assert len(ax.lines) == 1
    (ax,) = plot.curves({"val_accuracy": [0.5]}).axes
    assert ax.get_title() == "accuracy"
    assert len(ax.lines) == 2


def test_curves_of_a_run_that_diverged():
    figure = plot.curves({"loss": [1.0, np.inf, np.nan], "val_loss": [0.5, np.nan, np.nan]})
    figure.canvas.draw()
    assert list(figure.axes[0].lines[2].get_xdata()) == [1]
    assert len(plot.curves({"loss": [np.nan], "val_loss": [np.nan]}).axes[0].lines) == 2


def test_curves_take_a_history_object_and_refuse_others():
    assert list(plot.curves(SimpleNamespace(history=RECORD)).axes[0].lines[0].get_ydata()) == RECORD["loss"]
    with pytest.raises(TypeError, match="what fit returned"):
        plot.curves([1, 2])
    with pytest.raises(ValueError, match=r"needs loss or accuracy.*\['lr'\]"):
        plot.curves({"lr": [0.1]})


# Confusion matrix -----------------------------------------------------------------------------------


def test_confusion_matrix_counts_rows_true_columns_predicted():
    ax, bar = plot.confusion_matrix([0, 0, 0, 1, 2], [0, 0, 1, 1, 0], ["a", "b", "c"]).axes
    assert texts(ax) == ["2", "1", "0", "0", "1", "0", "1", "0", "0"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert ax.get_title() == "3 of 5 right (60.00%)"
    assert bar.get_ylabel() == "share of the true class"


def test_confusion_matrix_text_stands_in_its_cell():
    ax = plot.confusion_matrix([0, 1, 1], [1, 1, 1]).axes[0]
    assert {t.get_position(): t.get_text() for t in ax.texts} == {
        (0, 0): "0",
        (1, 0): "1",
        (0, 1): "0",
        (1, 1): "2",
    }


def test_confusion_matrix_takes_logits_and_empty_classes():
    ax = plot.confusion_matrix(dl.Tensor([0]).data.astype(int), np.eye(4)[[2]]).axes[0]
    shown = np.zeros((4, 4))
    shown[0, 2] = 1
    assert ax.images[0].get_array().tolist() == shown.tolist()
    assert plot.confusion_matrix([0, 1], [0, 1], ["a", "b", "c"]).axes[0].images[0].get_array().shape == (
        3,
        3,
    )


@pytest.mark.parametrize("classes", [2, 10, 26])
def test_confusion_matrix_stays_readable(classes):
    names = ["abcdefghijklmnop"] * classes
    labels = np.repeat(np.arange(classes), 1000)
    figure = plot.confusion_matrix(labels, labels, names)
    assert inside(figure)
    ax, renderer = figure.axes[0], figure.canvas.get_renderer()
    assert len(ax.texts) == classes**2
    cell = ax.get_window_extent(renderer).width / classes
    assert all(text.get_window_extent(renderer).width < cell for text in ax.texts)
    assert all(text.get_fontsize() >= 7 for text in ax.texts)


def test_confusion_matrix_takes_any_names():
    figure = plot.confusion_matrix([0, 1], [0, 1], ["$\\frac{$", "long " * 100])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == [
        "$\\frac{$",
        "long long long long lon…",
    ]
    assert inside(figure)


def test_confusion_matrix_of_many_classes_has_no_numbers():
    assert not plot.confusion_matrix([99], [99]).axes[0].texts


def test_confusion_matrix_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"labels must be class numbers.*float64"):
        plot.confusion_matrix([0.5], [0])
    with pytest.raises(ValueError, match="predictions must be class numbers"):
        plot.confusion_matrix([0], [-1])
    with pytest.raises(dl.ShapeError, match="N is 2 in labels"):
        plot.confusion_matrix([0, 1], [0])
    with pytest.raises(ValueError, match="must name all 3 classes, 0 to 2, got 2"):
        plot.confusion_matrix([2], [0], ["a", "b"])


# Filters --------------------------------------------------------------------------------------------


def test_filters_are_stretched_one_by_one():
    weight = np.zeros((2, 2, 1, 3), np.float32)
    weight[..., 0, 0] = [[-1, 0], [1, 3]]
    weight[..., 0, 1] = [[10, 20], [30, 10]]
    (ax,) = plot.filters(weight).axes
    shown = [image.get_array().tolist() for image in ax.images]
    assert shown == [[[0, 0.25], [0.5, 1]], [[0, 0.5], [1, 0]], [[0.5, 0.5], [0.5, 0.5]]]
    assert ax.get_title(loc="left") == "weight: 3 filters, one channel"


def test_filters_of_a_model_are_those_of_its_first_convolution():
    model = dl.Sequential(Conv2D(5, 3), Conv2D(7, 3), Flatten(), Dense(2), input_shape=(8, 8, 3))
    (ax,) = plot.filters(model).axes
    assert len(ax.images) == 5
    colours = model[0].weight.data[..., 4]
    expected = (colours - colours.min()) / (colours.max() - colours.min())
    np.testing.assert_allclose(ax.images[4].get_array(), expected, rtol=1e-5)
    assert ax.get_title(loc="left") == "conv2d.weight: 5 filters, three channels as colours"


def test_filters_of_other_channels_show_the_mean():
    weight = np.random.default_rng(0).normal(size=(3, 1, 4, 70))
    (ax,) = plot.filters(weight).axes
    assert len(ax.images) == 64
    mean = weight[..., 1].mean(axis=2)
    np.testing.assert_allclose(ax.images[1].get_array(), (mean - mean.min()) / np.ptp(mean))
    assert ax.get_title(loc="left") == "weight: 64 of 70 filters, mean of 4 channels"


def test_filters_refuse_a_model_without_convolution():
    with pytest.raises(ValueError, match="found none in Dense"):
        plot.filters(Dense(3))
    with pytest.raises(dl.ShapeError, match="weight needs 4 axes"):
        plot.filters(np.zeros((3, 3)))


# Pictures -------------------------------------------------------------------------------------------


def test_predictions_put_the_most_confident_mistake_first():
    x = images(5, 6, 6, 1)
    wrong, right = plot.predictions(x, LABELS, LOGITS, ["cat", "dog", "elk"]).axes
    assert texts(wrong) == ["cat p=0.90 / dog", "dog p=0.60 / elk"]
    assert texts(right) == ["cat p=0.80 / cat", "dog p=0.70 / dog", "elk p=0.60 / elk"]
    assert wrong.get_title(loc="left").startswith("Wrong: 2 of 5")
    assert right.get_title(loc="left").startswith("Right: 3 of 5")
    for ax, rows in ((wrong, [4, 2]), (right, [0, 1, 3])):
        for image, row in zip(ax.images, rows, strict=True):
            np.testing.assert_allclose(image.get_array(), x[row, ..., 0] / 255)


@pytest.mark.parametrize(("wrong", "cells"), [(True, [1]), (False, [1]), (None, [1, 1])])
def test_predictions_draw_what_is_asked_for(wrong, cells):
    figure = plot.predictions(images(5, 4, 4, 3), LABELS, LOGITS, count=1, wrong=wrong)
    assert [len(ax.images) for ax in figure.axes] == cells
    if wrong is not None:
        assert figure.axes[0].get_title(loc="left").startswith("Wrong" if wrong else "Right")


def test_predictions_with_no_mistake_say_so():
    wrong, right = plot.predictions(images(5, 4, 4), LOGITS.argmax(axis=1), LOGITS).axes
    assert not wrong.images
    assert texts(wrong) == ["none"]
    assert len(right.images) == 5


def test_long_names_are_cut_and_nothing_is_clipped():
    x, labels = images(20, 4, 4), np.arange(20) % 2
    names = ["a very long name of a class", "b $\\frac{x}$ <i>\n\x07"]
    figure = plot.predictions(x, labels, np.eye(2)[1 - labels] * 50, names, wrong=True)
    assert texts(figure.axes[0])[:2] == [
        "b $\\frac{… p=1.00\n/ a very long n…",
        "a very lo… p=1.00\n/ b $\\frac{x}$ …",
    ]
    assert inside(figure)


def test_captions_do_not_run_into_each_other():
    names = ["AUTOMOBILE ENGINE PARTS", "VW GOLF AND THE LIKE"]
    figure = plot.predictions(images(8, 4, 4), [0] * 8, np.eye(2)[[1] * 8], names, wrong=True)
    figure.canvas.draw()
    boxes = [t.get_window_extent(figure.canvas.get_renderer()) for t in figure.axes[0].texts]
    overlap = [a.x1 - b.x0 for a, b in itertools.pairwise(boxes)]
    assert max(overlap) < 0


def test_infinite_logits_are_shown():
    logits = np.array([[np.inf, 0.0], [-np.inf, -np.inf]])
    figure = plot.predictions(images(2, 4, 4), [0, 0], logits)
    assert texts(figure.axes[1]) == ["0 p=nan / 0", "0 p=nan / 0"]


def test_samples_show_images_of_every_kind_alike():
    x = images(3, 4, 5, 3)
    for version in (x, x / 255.0, (x / 255).astype(np.float32), x.astype(np.int64)):
        (ax,) = plot.samples(version, [2, 0, 1], ["a", "b", "c"]).axes
        assert texts(ax) == ["c", "a", "b"]
        for image, row in zip(ax.images, x, strict=True):
            np.testing.assert_allclose(image.get_array(), row / 255, atol=1e-6)


def test_standardised_images_are_stretched():
    x = images(2, 4, 4, 1)[..., 0].astype(float)
    (ax,) = plot.samples((x - 100) / 30).axes
    np.testing.assert_allclose(ax.images[1].get_array(), (x[1] - x[1].min()) / np.ptp(x[1]))


def test_samples_do_not_change_their_input():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    before = x.copy()
    plot.samples(x)
    assert (x == before).all()


def test_tiles_keep_the_proportions_of_the_images():
    ax = plot.samples(images(20, 10, 30), count=20).axes[0]
    left, right, bottom, top = ax.images[0].get_extent()
    assert (bottom - top) / (right - left) == pytest.approx(1 / 3)
    places = {tuple(np.round(image.get_extent(), 6)) for image in ax.images}
    assert len(places) == 20


def test_pictures_refuse_what_does_not_fit():
    with pytest.raises(dl.ShapeError, match=r"C = 1 or 3, got shape \(2, 3, 8, 8\)"):
        plot.samples(images(2, 3, 8, 8))
    with pytest.raises(dl.ShapeError, match="reshape flat rows"):
        plot.predictions(images(5, 784), LABELS, LOGITS)
    with pytest.raises(dl.ShapeError, match="N is 4 in x"):
        plot.predictions(images(4, 4, 4), LABELS, LOGITS)
    with pytest.raises(ValueError, match="count must be an integer >= 1"):
        plot.samples(images(2, 4, 4), count=0)
    with pytest.raises(ValueError, match="must name all 3 classes"):
        plot.samples(images(2, 4, 4), [0, 2], ["a"])


# Files and imports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")]
)
def test_save_writes_the_figure(tmp_path, name, start):
    plot.curves(RECORD, save=tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert data.startswith(start)
    assert len(data) > 5000
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_every_function_saves(tmp_path):
    model = dl.Sequential(Conv2D(2, 3), input_shape=(4, 4, 1))
    plot.confusion_matrix([0, 1], [0, 1], save=tmp_path / "a.png")
    plot.filters(model, save=str(tmp_path / "b.png"))
    plot.predictions(images(5, 4, 4), LABELS, LOGITS, save=tmp_path / "c.png")
    plot.samples(images(5, 4, 4), save=tmp_path / "d.png")
    for file in "abcd":
        data = (tmp_path / f"{file}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data.endswith(b"IEND\xaeB`\x82")


def test_missing_matplotlib_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (lambda: plot.curves(RECORD), lambda: plot.samples(images(2, 4, 4))):
        with pytest.raises(ImportError, match=r"need matplotlib.*pip install 'minidl\[plot\]'"):
            draw()


def test_matplotlib_is_imported_late_and_pyplot_never():
    code = (
        "import sys, minidl.plot, minidl.report; assert 'matplotlib' not in sys.modules; "
        "minidl.plot.curves({'loss': [1.0]}).canvas.draw(); assert 'matplotlib.figure' in sys.modules; "
        "minidl.plot.confusion_matrix([0], [0]).canvas.draw(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Other processes and other threads: a model goes there and back, two train side by side."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import layers

X = np.random.default_rng(0).normal(size=(32, 12, 12, 3)).astype(np.float32)
Y = np.arange(32) % 5


def make(seed):
    return dl.Sequential(
        layers.Conv2D(16, 3, padding="same", activation="relu"), layers.BatchNorm(), layers.MaxPool2D(2),
        layers.Dropout(0.3), layers.Flatten(), layers.Dense(5), input_shape=(12, 12, 3), seed=seed,
    )  # fmt: skip


def train(seed):
    """The weights after a short training, the same for the same seed."""
    model = make(seed)
    dl.fit(model, X, Y, epochs=2, batch_size=8, optimizer=dl.optim.Adam(model), seed=seed, verbose=0)
    return model.state_dict()


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.scenario("F36")
def test_f36_two_threads_train_as_if_alone():
    alone = {seed: train(seed) for seed in (1, 2, 3)}
    start = threading.Barrier(3)

    def together(seed):
        start.wait(20)
        return train(seed)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for seed, state in zip(alone, pool.map(together, alone), strict=True):
            assert_equal(state, alone[seed])


@pytest.mark.scenario("F36")
def test_f36_inference_in_one_thread_while_another_trains():
    model, expected = make(7), train(1)
    outputs, done = dl.predict(model, X), threading.Event()

    def predict():
        while not done.is_set():
            np.testing.assert_array_equal(dl.predict(model, X), outputs)
        return True

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(predict)
        try:
            assert_equal(train(1), expected)
        finally:
            done.set()
        assert other.result(20)


def _in_child(queue, work, *arguments):
    queue.put(work(*arguments))


def run_in(method, work, *arguments):
    """The result of `work` in a process that was started by fork or spawn."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, work, *arguments))
    child.start()
    try:
        return queue.get(timeout=120)
    finally:
        child.join(20)


@pytest.mark.scenario("F35")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_f35_training_after_a_fork():
    """The threads of the kernels do not survive it: the child must start its own, and the parent keep its."""
    expected = train(1)
    assert_equal(run_in("fork", train, 1), expected)
    assert_equal(train(1), expected)


SPAWNED = """
import pickle, sys
import minidl as dl
dl.kernels.use(sys.argv[1])  # other kernels round differently
model, optimizer, x, y = pickle.load(sys.stdin.buffer)
optimizer.zero_grad()
dl.ops.cross_entropy(model(x), y).backward()
optimizer.step()
sys.stdout.buffer.write(pickle.dumps((model.state_dict(), dl.predict(model, x))))
"""


@pytest.mark.scenario("F35")
def test_f35_a_model_and_its_optimiser_in_a_fresh_process(request):
    model = make(4)
    optimizer = dl.optim.Adam(model)
    dl.fit(model, X, Y, epochs=1, batch_size=16, optimizer=optimizer, verbose=0)
    for layer in model:
        layer.eval()
    sent = pickle.dumps((model, optimizer, X, Y))
    before = model.state_dict()
    command = [sys.executable, "-c", SPAWNED, request.config.getoption("--kernels")]
    folder = Path(dl.__file__).parents[1]
    done = subprocess.run(command, input=sent, capture_output=True, check=True, cwd=folder)
    state, outputs = pickle.loads(done.stdout)
    assert_equal(model.state_dict(), before)  # nothing is shared
    optimizer.zero_grad()
    dl.ops.cross_entropy(model(X), Y).backward()
    optimizer.step()
    assert_equal(state, model.state_dict())
    np.testing.assert_array_equal(outputs, dl.predict(model, X))

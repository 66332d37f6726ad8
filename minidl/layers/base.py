"""Parameter and Layer: how a model finds, names, freezes, saves and moves what it learns."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import init, rng
from ..autograd import Tensor, no_grad
from ..backend import device_of, is_array, resolve_device, to_device, to_numpy
from ..ops.elementwise import cast, multiply
from .state import StateError, compare_state
from .tree import Parameter, Tree

_loose_layers = itertools.count()


class Layer(Tree):
    """Part of a model: parameters, buffers, child layers, and ``forward``.

    What a layer owns are its attributes, in order of assignment: a `Parameter` is trained and saved; a
    plain array is a buffer, saved and moved but not trained; a `Layer`, or a list or dict of them, is a
    child; a ``_name`` is none of these. Subclass it for a model with branches::

        class Residual(dl.Layer):
            def __init__(self, filters):
                self.conv = dl.layers.Conv2D(filters, 3, padding="same")

            def forward(self, x):
                return dl.ops.relu(x + self.conv(x))

    Parameters are made at the first call, when the shapes are known. Their initial values depend on the
    model's seed and the layer's path only, not on the order in which layers were made.

    Attributes
    ----------
    training : bool
        Set by `train` and `eval`; batch norm and dropout look at it.
    """

    name: str | None = None
    training: bool = True
    _built = False
    _frozen = False
    _frozen_norm = "inference"  # what frozen batch norm does in training
    _seed = 0
    _path: str | None = None
    _named_at = -1
    _dtype: Any = None  # of its own parameters
    _input_shapes: list[tuple[int, ...]] | None = None
    _watch: Any = None  # called with (layer, output) after forward
    _build_dtype: Any = np.float32
    _build_device: str | None = None  # set by `to`: where parameters yet to be made shall be

    def __init__(self, name: str | None = None, seed: int = 0):
        self.name, self._seed = name, seed

    def build(self, *shapes: tuple[int, ...]) -> None:
        """Make the parameters; called once with the shapes of the inputs, batch axis included."""

    def forward(self, *inputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define forward(self, x)")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Apply the layer. Images as uint8 are divided by 255; other integers become float32.

        Keyword arguments reach `forward` as they are.
        """
        tensors = tuple([_floating(x) for x in inputs])
        if not self._path and self._named_at != Tree.structure:
            self._name_descendants()
        try:
            if not self._built:
                self.build(*[x.shape for x in tensors])
                self._built, self._input_shapes = True, [x.shape[1:] for x in tensors]
            if self._dtype is not None:
                tensors = tuple([x if x.dtype == self._dtype else cast(x, self._dtype) for x in tensors])
            y = self.forward(*tensors, **options)
        except (ValueError, TypeError, MemoryError) as error:
            if not getattr(error, "__notes__", None):
                hint = "; a smaller batch_size needs less memory" if isinstance(error, MemoryError) else ""
                error.add_note(f"in layer {self.name or self._path or '(model)'!r}: {self!r}{hint}")
            raise
        if self._watch is not None:
            self._watch(self, y)
        return y

    # Making --------------------------------------------------------------------------------------------

    def _name_descendants(self) -> None:
        """Give this model's layers, where they have none yet, the path and seed of their random numbers."""
        layers = list(self.named_layers())
        if self._path is None:
            # A Dense or Dropout by itself gets numbers of its own, a model of yours those of its seed.
            loose = len(layers) == 1 and type(self).__module__.startswith(__package__)
            self._path = f"{type(self).__name__}-{next(_loose_layers)}" if loose else ""
        for path, layer in layers[1:]:
            if layer._path is None:
                layer._path, layer._seed = path, self._seed
                layer._build_dtype, layer._build_device = self._build_dtype, self._build_device
                layer._frozen = layer._frozen or self._frozen
                layer._frozen_norm = self._frozen_norm if self._frozen else layer._frozen_norm
        self._named_at = Tree.structure

    def add_parameter(
        self, key: str, shape: tuple[int, ...], initializer: str | init.Initializer, fan_in: int | None = None
    ) -> None:
        """Make the parameter `key`; for use in `build`."""
        source = rng.generator(self._seed, "init", self._path or self.name or "", key)
        values = init.get(initializer)(shape, source, self._build_dtype, fan_in=fan_in)
        if self._build_device is not None:
            values = to_device(values, self._build_device)
        setattr(self, key, Parameter(values, requires_grad=not self._frozen))
        self._dtype = self._build_dtype

    # Modes ------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Layer:
        """Switch this layer and all below to training (or, with False, to inference)."""
        for _, layer in self.named_layers():
            layer.training = mode
        return self

    def eval(self) -> Layer:
        """Switch to inference: batch norm uses its running averages, dropout does nothing."""
        return self.train(False)

    def freeze(self, *patterns: str, batch_norm: str = "inference") -> Layer:
        """Stop training this layer and all below.

        Parameters
        ----------
        *patterns : str
            Only the layers whose path matches one of these, and all below them: ``freeze("block[1-4]*")``.
        batch_norm : "inference", "batch" or "update"
            What frozen batch norm does in training: use its running averages (Keras since 2.3); normalise by
            the batch and keep the averages (Keras 2.1.3 to 2.2); or update them as well (Keras before).

        Raises
        ------
        ValueError
            A pattern matches nothing, or an unknown mode.
        """
        if batch_norm not in ("inference", "batch", "update"):
            raise ValueError(
                f"freeze: batch_norm must be 'inference', 'batch' or 'update', got {batch_norm!r}"
            )
        return self._set_frozen(True, patterns, batch_norm)

    def unfreeze(self, *patterns: str) -> Layer:
        """Undo `freeze`, for all layers or for those whose path matches a pattern."""
        return self._set_frozen(False, patterns)

    def _set_frozen(self, frozen: bool, patterns: tuple[str, ...], batch_norm: str = "inference") -> Layer:
        for top in self.find_layers(*patterns) if patterns else [self]:
            for _, layer in top.named_layers():
                layer._frozen, layer._frozen_norm = frozen, batch_norm
            for parameter in top.parameters():
                parameter.requires_grad = not frozen
                parameter.grad = None
        Tree.structure += 1
        return self

    def to(self, device: str | None = None, dtype: Any = None) -> Layer:
        """Move parameters and buffers to a device ("cpu", "cuda", "cuda:1", "auto") or to float32 or float64."""
        target = None if device is None else resolve_device(device)
        if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(
                f"to: dtype must be float32 or float64, got {np.dtype(dtype)}: smaller numbers cannot hold "
                f"Adam's eps and moments"
            )
        for _, layer in self.named_layers():
            if target is not None:
                layer._build_device = target
            if dtype is not None:
                layer._build_dtype = np.dtype(dtype)
                layer._dtype = layer._dtype and layer._build_dtype
            for key, value in list(vars(layer).items()):
                array = value._data if isinstance(value, Parameter) else value
                if key.startswith("_") or not is_array(array):
                    continue
                if dtype is not None and array.dtype.kind == "f":
                    array = array.astype(dtype, copy=False)
                if target is not None:
                    array = to_device(array, target)
                if isinstance(value, Parameter):
                    value._data, value.grad, value.grad_slot = array, None, None
                else:
                    setattr(layer, key, array)
        Tree.structure += 1
        return self

    # State ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by path, as NumPy copies."""
        return {
            path: np.array(to_numpy(v._data if isinstance(v, Parameter) else v))
            for path, v in self._named_values()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Overwrite parameters and buffers with those of `state`, all or none.

        Raises
        ------
        StateError
            Names are missing or unknown, or shapes differ: one message lists every problem.
        """
        own = dict(self._named_values())
        problems = compare_state({k: v.shape for k, v in own.items()}, state)
        if problems:
            if not own:
                problems.append(
                    "the model has no parameters yet: give Sequential an input_shape, or call it once"
                )
            count = f"load_state_dict: nothing was loaded, {len(problems)} problem(s):\n  "
            raise StateError(count + "\n  ".join(problems))
        for path, value in own.items():
            array = value._data if isinstance(value, Parameter) else value
            array[...] = to_device(to_numpy(state[path]), device_of(array))
            if isinstance(value, Parameter):
                value.version += 1

    def __repr__(self) -> str:
        shown = (
            f"{key}={value!r}"
            for key, value in vars(self).items()
            if key[0] != "_" and key != "training" and isinstance(value, (int, float, str, tuple))
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@contextlib.contextmanager
def inference(model: Layer) -> Iterator[None]:
    """`model` in inference mode and without a graph; afterwards every layer is as it was."""
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _floating(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.dtype.kind == "f":
        return x
    if x.dtype.kind not in "iub":
        raise TypeError(
            f"a layer's input must be numbers, got dtype {x.dtype}; convert it with astype('float32')"
        )
    return multiply(cast(x, np.float32), 1 / 255) if x.dtype == np.uint8 else cast(x, np.float32)

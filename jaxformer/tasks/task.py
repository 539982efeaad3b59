"""What training asks of a task, and what tasks around one network share: parameters, precision, evaluation of the loss.

Not for losses, of which each task has its own, nor for steps (`training`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxformer.config import Config, ModelConfig
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.rows import sum_over_rows
from jaxformer.types import Mean, Sequences

Metrics = dict[str, Mean]

_Batch = TypeVar("_Batch")
_Model = TypeVar("_Model", bound=nnx.Module)


@runtime_checkable
class Task(Protocol[_Batch]):
    """What training needs to know of a task; the parameters are a pytree that the trainer keeps."""

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""

    def new_params(self, seed: int | jax.Array) -> Any:
        """The first parameters; pure, so that it can be compiled and each device make its own part."""

    def abstract_params(self, layout: Layout | None = None) -> Any:
        """Their shapes, placed as `layout` says."""

    def abstract_batch(self, shape: tuple[int, int, int]) -> _Batch:
        """The shapes of a batch of rows, input slots and target slots (0 of an encoder), on no device yet."""

    def loss_function(self, params: Any, batch: _Batch, seeds: jax.Array) -> tuple[Mean, Metrics]:
        """The loss of a batch, and metrics with `loss` among them: undivided sums. `seeds`: uint32 [B], of dropout."""

    def evaluate_loss(
        self, params: Any, batches: Iterable[_Batch], place: Callable[[_Batch], _Batch] = jax.device_put
    ) -> dict[str, float]:
        """The means of the metrics over all of `batches`, without dropout; `place` puts a batch on devices."""


class ModelTask(abc.ABC, Generic[_Model, _Batch]):
    """A `Task` around one network. A subclass says which network and which loss.

    It sets what its `init_model` needs before it calls this constructor.

    The parameters stay outside, as an `nnx.State` of float32 arrays; with `precision=bf16` or `fp16` they are rounded
    where they are used, which makes every activation as short, while gradients arrive in float32 again.

    Args:
      config: of the run.
      layout: over which devices a loss is evaluated; None for one.

    Attributes:
      dtype: of parameters in use and of activations.
    """

    def __init__(self, config: Config, layout: Layout | None = None) -> None:
        self.config = config
        abstract = nnx.eval_shape(lambda: self.init_model(nnx.Rngs(0)))
        self._graph, self._abstract = nnx.split(abstract, nnx.Param)
        if layout is not None:
            check_divides(config.model, layout, self._abstract)
        self.dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16}[config.precision]
        metrics = lambda params, batch: self.loss(self.model(params), batch, None)[1]  # noqa: E731
        self._evaluate = jax.jit(sum_over_rows(metrics, layout))

    @abc.abstractmethod
    def init_model(self, rngs: nnx.Rngs) -> _Model:
        """A new network with random parameters in float32."""

    @abc.abstractmethod
    def abstract_batch(self, shape: tuple[int, int, int]) -> _Batch:
        """The shapes of a batch of rows, input slots and target slots (0 of an encoder), on no device yet."""

    @abc.abstractmethod
    def loss(self, model: _Model, batch: _Batch, seed: jax.Array | None) -> tuple[Mean, Metrics]:
        """The loss of `batch`, undivided, and metrics with `loss` among them.

        Args:
          model: the network.
          batch: inputs and labels.
          seed: uint32 for dropout, one or one for each row; None for none.
        """

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._abstract))

    def new_params(self, seed: int | jax.Array) -> nnx.State:
        """The parameters of a new network; to be compiled, see `init_params`."""
        return nnx.state(self.init_model(nnx.Rngs(jax.random.key(seed))), nnx.Param)

    def init_params(self, seed: int) -> nnx.State:
        """The parameters of a new network, on one device."""
        return jax.jit(self.new_params)(seed)

    def abstract_params(self, layout: Layout | None = None) -> nnx.State:
        """The shapes of `init_params`, placed as `layout` says, without computing anything."""
        if layout is None:
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self._abstract)
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            self._abstract,
            layout.shardings(self._abstract),
        )

    def model(self, params: nnx.State) -> _Model:
        """The network with `params`, in the precision of the configuration."""
        return nnx.merge(self._graph, self._cast(params))

    def _cast(self, params: nnx.State) -> nnx.State:
        return jax.tree.map(lambda x: x.astype(self.dtype), params)

    def loss_function(self, params: nnx.State, batch: _Batch, seed: jax.Array) -> tuple[Mean, Metrics]:
        """`loss` as a function of the parameters, for `training.step`."""
        return self.loss(self.model(params), batch, seed)

    def evaluate_loss(
        self, params: nnx.State, batches: Iterable[_Batch], place: Callable[[_Batch], _Batch] = jax.device_put
    ) -> dict[str, float]:
        """The means of the metrics over all of `batches`, without dropout; `place` puts a batch on devices.

        Nothing is fetched before every batch has been handed to the device.
        """
        total: Metrics = {}
        for batch in batches:
            metrics = self._evaluate(params, place(batch))
            total = {name: total[name] + mean if total else mean for name, mean in metrics.items()}
        return {name: mean.value() for name, mean in jax.device_get(total).items()}


def abstract_sequences(rows: int, length: int, *, pieces: int = 0) -> Sequences:
    """The shapes of rows of tokens; with `pieces`, those of a token and its spelling."""
    tokens = jax.ShapeDtypeStruct((rows, length, pieces) if pieces else (rows, length), np.int32)
    dtypes = (np.int32, np.int32, np.float32)
    return Sequences(tokens, *(jax.ShapeDtypeStruct((rows, length), dtype) for dtype in dtypes))


def check_divides(model: ModelConfig, layout: Layout, params: Any) -> None:
    """Refuses heads and parameters that do not divide over the devices of `layout`, before anything is compiled.

    Raises:
      ValueError: with the nearest numbers that do and that `model` would take, if there are any.
    """
    parts = layout.parts("heads")
    for name, heads in (("num_heads", model.num_heads), ("num_kv_heads", model.num_kv_heads or model.num_heads)):
        if heads % parts:
            near = " or ".join(map(str, _nearest_heads(model, name, parts)))
            raise ValueError(
                f"model.{name}={heads} does not divide over mesh.tensor = {parts} devices: choose "
                + (f"{near} heads, or " if near else "") + "fewer devices along this axis"
            )  # fmt: skip
    layout.check(params, {"model": model.num_heads * (2 if model.position == "rotary" else 1)})


def _nearest_heads(model: ModelConfig, name: str, parts: int) -> list[int]:
    """The nearest multiples of `parts`, below and above, that `model` takes for its field `name`."""
    heads, whole = getattr(model, name), model.d_model if name == "num_heads" else model.num_heads
    divisors = [number for number in range(parts, whole + 1, parts) if whole % number == 0]
    fitting = [number for number in divisors if _takes(model, name, number)]
    below, above = ([number for number in fitting if (number < heads) == less] for less in (True, False))
    return below[-1:] + above[:1]


def _takes(model: ModelConfig, name: str, number: int) -> bool:
    change: dict[str, Any] = {name: number}
    try:
        dataclasses.replace(model, **change)
    except ValueError:
        return False
    return True

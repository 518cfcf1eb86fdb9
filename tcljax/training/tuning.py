"""Phase 2 as a library call: train the thresholds of a network through its T-step simulation."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import unfreeze

from tcljax.checks import check_count, check_finite
from tcljax.data import Split
from tcljax.distributed import parallel
from tcljax.layers.activations import ReLU, with_activation
from tcljax.layers.collections import CLIPPING, Variables, require_clipping
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.training.loop import Hooks
from tcljax.training.objectives import snn_objective
from tcljax.training.optimizers import OptimizerConfig
from tcljax.training.phase import Phase, run_phase, within


def _as_they_are(images: jax.Array, key: jax.Array) -> jax.Array:
  del key
  return jnp.asarray(images)


def tune(
  model: nn.Module,
  variables: Variables,
  images: np.ndarray,
  labels: np.ndarray,
  spiking: SpikingConfig = SpikingConfig(),
  *,
  steps: int = 500,
  minutes: float = 0.0,
  batch_size: int = 32,
  optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.02),
  objective: str = "distillation",
  at: Sequence[int] = (),
  preprocess: Callable[[jax.Array, jax.Array], jax.Array] = _as_they_are,
  seed: int = 0,
  on_metrics: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> Variables:
  """Trains thresholds and initial potentials; the weights stay as they are, to the bit.

  Args:
    model: a network with a field `act`.
    variables: its variables with the collection `clipping`, from `calibrate`.
    images: training inputs, [N, ...].
    labels: class numbers, [N].
    spiking: the simulation whose output is made better; `spiking.time_steps` is the T to tune for.
    steps: training steps.
    minutes: if positive, as many steps as fit into this time take the place of `steps`.
    batch_size: a multiple of the number of devices.
    optimizer: of the thresholds.
    objective: "distillation" from the ANN's logits, or "cross_entropy" with the labels.
    at: numbers of steps whose answers are to be good, for thresholds that serve a range of T; empty
      for `spiking.time_steps` alone.
    preprocess: applied to each batch of images, with a random key, on the device.
    seed: of the order of the images and everything else random.
    on_metrics: called after each step with its number and metrics, such as `loss` and `accuracy`.

  Returns:
    The variables with a new collection `clipping`.

  Raises:
    ValueError: on an unknown objective, a batch size that the devices cannot share, labels that
      are not class numbers of this network, or thresholds that are missing.
    TrainingDiverged: if the loss stops being finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> labels = [0, 1, 2, 0, 1, 2, 0, 1]
    >>> spiking = tcljax.SpikingConfig(time_steps=2)
    >>> tuned = tcljax.tune(model, variables, images, labels, spiking, steps=3, batch_size=8)
    >>> same = jax.tree.map(lambda a, b: bool((a == b).all()), variables, tuned)
    >>> all(jax.tree.leaves(same["params"])), any(jax.tree.leaves(same["clipping"]))
    (True, False)
  """
  require_clipping(variables)
  check_spiking(spiking)
  if not isinstance(optimizer, OptimizerConfig):
    raise ValueError(f"optimizer={optimizer!r} must be a tcljax.OptimizerConfig")
  check_count("steps", steps, 1)
  check_finite("minutes", minutes)
  parallel.check_batch_size("batch_size", batch_size)
  split = Split(np.asarray(images), np.asarray(labels))
  example = jax.eval_shape(
    preprocess,
    jax.ShapeDtypeStruct((1, *split.image_shape), split.image_dtype),
    jax.eval_shape(jax.random.key, 0),
  )
  split.check_classes(
    jax.eval_shape(with_activation(model, ReLU).apply, variables, example).shape[-1]
  )
  variables = unfreeze(dict(variables))
  mesh = parallel.data_mesh()
  loss = snn_objective(model, preprocess, spiking, mesh, objective, at=at)
  phase = Phase("tune", steps, batch_size, loss, {CLIPPING: optimizer}, seed)
  if minutes:
    phase = within(phase, minutes, variables, split, mesh)
  return run_phase(phase, lambda: variables, split, mesh, Hooks(on_metrics=on_metrics))

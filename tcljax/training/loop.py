"""The training loop: steps until the last one, with their metrics, checkpoints and good sense."""

import dataclasses
import enum
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from tcljax.layers.collections import Variables
from tcljax.training.feeds import Feed
from tcljax.training.step import TrainState

if TYPE_CHECKING:
  from tcljax.distributed.checkpoints import (
    Checkpoints,  # Orbax, which a library user need not load
  )


class TrainingDiverged(RuntimeError):
  """The loss, its gradient or the update stopped being finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> try:
    ...   tcljax.tune(model, variables, images * 1e38, [0] * 8, steps=1, batch_size=8)
    ... except tcljax.TrainingDiverged as error:
    ...   print(str(error).split(";")[0])
    loss is nan at step 1
  """


class Stopped(RuntimeError):
  """Somebody asked for the end of a run, which stopped after a step and saved it."""


class Asked(enum.IntEnum):
  """What somebody may ask for after a step; the higher one is what is done."""

  NOTHING = 0
  SAVE = 1
  STOP = 2  # and save


@dataclasses.dataclass(frozen=True)
class Hooks:
  """What happens beside the steps.

  Attributes:
    on_begin: called with the number of steps that are done already.
    on_metrics: called with the number of each finished step, from 1, its metrics, and the moment
      when it ended, in seconds of `time.perf_counter`.
    checkpoints: where to save and what to go on from; None saves nothing.
    checkpoint_every: steps between checkpoints, 0 for no such number; the last step is always
      saved.
    asked: what is asked for after a step, where there are checkpoints.
    on_saved: called with the number of each step that was saved, or is gone on from, and its
      variables.
  """

  on_begin: Callable[[int], None] = lambda done: None
  on_metrics: Callable[[int, dict[str, float], float], None] = lambda step, metrics, ended: None
  checkpoints: "Checkpoints | None" = None
  checkpoint_every: int = 0
  asked: Callable[[], Asked] = lambda: Asked.NOTHING
  on_saved: Callable[[int, Variables], None] = lambda step, variables: None


def fit(state: TrainState, feed: Feed, steps: int, *, seed: int, hooks: Hooks) -> TrainState:
  """Runs the steps that `state` still lacks.

  The metrics of a call are fetched after the next one was dispatched, so that the device never
  waits for the host.

  Args:
    state: where to start.
    feed: what runs the next steps.
    steps: number of steps in the whole run.
    seed: of everything random in the steps.
    hooks: what happens beside the steps.

  Returns:
    The state after `steps` steps.

  Raises:
    Stopped: once it was asked for; the last step is then saved.
    TrainingDiverged: if the loss, the gradient or the update is not finite; nothing is saved from
      there on.
  """
  key = jax.random.key(seed)
  checkpoints, every = hooks.checkpoints, hooks.checkpoint_every
  pending, settled = None, time.perf_counter()

  def settle():
    nonlocal settled
    if pending is None:
      return
    first, metrics = pending
    metrics = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
    count = len(metrics["loss"])
    # The steps of one call are known together; each has an equal part of the time that it took.
    before, settled = settled, time.perf_counter()
    ended = np.linspace(before, settled, count + 1)[1:]
    for i in range(count):
      one = {name: float(value[i]) for name, value in metrics.items()}
      for name in ("loss", "gradient_norm", "update_norm"):
        if not np.isfinite(one[name]):
          raise TrainingDiverged(_diverged(first + i, name, one[name], checkpoints))
      hooks.on_metrics(first + i, one, float(ended[i]))

  done = int(state.step)
  while done < steps:
    pause = min(steps, (done // every + 1) * every) if checkpoints and every else steps
    count = min(feed.steps_a_call, pause - done)
    state, metrics = feed(state, done, count, key)
    settle()
    pending = (done + 1, metrics)
    done += count
    asked = hooks.asked() if checkpoints else Asked.NOTHING
    if checkpoints and (done == pause or asked >= Asked.SAVE):
      settle()  # what is saved must be known to be good
      pending = None
      checkpoints.save(done, state._asdict())
      hooks.on_saved(done, state.variables)
    if asked == Asked.STOP:
      raise Stopped(f"stopped after step {done} of {steps}, which is saved")
  settle()
  return state


def _diverged(number: int, name: str, value: float, checkpoints: "Checkpoints | None") -> str:
  what = f"{name.replace('_', ' ')} is {value} at step {number}"
  if checkpoints is None:
    return f"{what}; are all inputs finite? if so, lower the learning rate or set clip_norm"
  last = checkpoints.latest_step()
  kept = f"the last good checkpoint is {checkpoints.path(last)}" if last else "no checkpoint yet"
  return (
    f"{what}; {kept}; start anew in another workdir with a lower learning rate or with clip_norm"
  )

"""A phase: as many steps as fit into a time; on the device and from the host the same."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import as_it_is

import tcljax
from tcljax.data import Split
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import feeds, loop, objectives, phase


@pytest.mark.slow
def test_as_many_steps_as_fit_into_a_time(case, monkeypatch):
  """The clock is replaced: a second a reading, so a step of the trial takes one."""
  model, variables, images, labels = case
  seconds = itertools.count()
  monkeypatch.setattr(phase.time, "perf_counter", lambda: next(seconds))
  seen = []
  run = functools.partial(
    tcljax.tune,
    model,
    variables,
    images,
    labels,
    SpikingConfig(time_steps=2),
    batch_size=16,
    on_metrics=lambda step, metrics: seen.append(step),
  )
  run(minutes=0.35)  # 21 seconds
  assert seen == list(range(1, 22))
  seen.clear()
  with pytest.warns(UserWarning, match=r"1 tuning steps fit into 0\.01 minutes; fewer than 20"):
    run(minutes=0.01)
  assert seen == [1]


@pytest.mark.parametrize("minutes, steps", [(1.0, 30), (0.5, 15), (0.01, 1)])
def test_compiling_takes_nothing_off_the_time(case, monkeypatch, minutes, steps):
  """By a clock on which tracing takes an hour and a step of the trial two seconds."""
  _, variables, images, labels = case
  now = 0.0

  def pass_time(seconds):
    nonlocal now
    now += seconds

  def objective(variables, batch, key, done=0.0):
    pass_time(3600)
    return sum((a**2).sum() for a in jax.tree.leaves(variables["clipping"])), ({}, {})

  ready = jax.block_until_ready
  monkeypatch.setattr(phase.jax, "block_until_ready", lambda a: (pass_time(2), ready(a))[1])
  monkeypatch.setattr(phase.time, "perf_counter", lambda: now)
  adam = {"clipping": tcljax.OptimizerConfig("adamw")}
  asked = phase.Phase("tune", 7, 16, objective, adam)
  found = phase.within(asked, minutes, variables, Split(images, labels), parallel.data_mesh())
  assert found.steps == steps
  told = phase.fitting_steps(found.steps, minutes)
  assert told.startswith(f"{steps} tuning steps fit into {minutes:g} minutes")
  assert ("hardly move a threshold" in told) == (steps < 20)


@pytest.mark.slow
def test_many_steps_in_one_call_are_those_one_by_one(case, tmp_path, monkeypatch):
  """On the device and from the host: the same batches, metrics, checkpoints and weights."""
  model, variables, images, labels = case
  split = Split(images, labels)
  of_images = objectives.ann_objective(model, as_it_is)

  def objective(variables, batch, key, done=0.0):
    loss, (metrics, updated) = of_images(variables, batch, key)
    return loss, ({**metrics, "done": jnp.asarray(done, jnp.float32)}, updated)

  sgd = tcljax.OptimizerConfig("sgd", 0.01)
  run = phase.Phase("ann", 11, 16, objective, {"params": sgd}, seed=3)
  found = []
  for on_device in (False, True):
    monkeypatch.setattr(phase, "fits_on_device", lambda split, fits=on_device: fits)
    monkeypatch.setattr(feeds.OnDevice, "steps_a_call", 4)
    seen, begun = [], []
    with Checkpoints(tmp_path / str(on_device)) as checkpoints:
      hooks = loop.Hooks(
        begun.append, lambda n, one, _, seen=seen: seen.append((n, one)), checkpoints, 5
      )
      first = run_to(run, 7, variables, split, hooks)
      assert checkpoints.latest_step() == 7
      last = phase.run_phase(run, lambda: variables, split, parallel.data_mesh(), hooks)
      assert checkpoints.latest_step() == 11 and begun == [0, 7]
    found.append((first, last, dict(seen)))
  (*one, metrics), (*many, metrics_of_many) = found
  assert list(metrics) == list(metrics_of_many) == list(range(1, 12))
  chex.assert_trees_all_close(one, many, rtol=1e-5, atol=1e-6)
  chex.assert_trees_all_close(metrics, metrics_of_many, rtol=1e-4)
  behind = [one["done"] for one in metrics.values()]
  np.testing.assert_allclose(behind, np.arange(11) / 11, rtol=1e-6)


def run_to(run, steps, variables, split, hooks):
  """The first steps of a phase, with the schedule of all of them."""
  original = loop.fit
  shortened = lambda state, feed, _, **rest: original(state, feed, steps, **rest)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(phase, "fit", shortened)
    return phase.run_phase(run, lambda: variables, split, parallel.data_mesh(), hooks)

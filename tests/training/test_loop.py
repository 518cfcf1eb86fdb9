"""The loop over steps is compiled once, and saves nothing that is not finite."""

import chex
import numpy as np
import optax
import pytest
from states import as_it_is, bits

import tcljax
from tcljax.data import Split, training_batches
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import feeds, loop, objectives, optimizers, phase, step


def test_one_compilation_for_a_whole_run(case):
  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  transformation = optimizers.train_only({"clipping": optax.adam(0.01)})
  objective = objectives.snn_objective(model, as_it_is, SpikingConfig(time_steps=2), mesh)
  counted = chex.assert_max_traces(objective, n=1)
  feed = feeds.OneByOne(
    step.train_step(step.one_step(counted, transformation, ["clipping"], 4)),
    training_batches(Split(images, labels), 16, 0),
    mesh,
  )
  state = parallel.replicate(mesh, step.new_state(variables, transformation))
  state = loop.fit(state, feed, 4, seed=0, hooks=loop.Hooks())
  assert int(state.step) == 4


def test_divergence_names_the_step_and_saves_nothing(case, tmp_path):
  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  broken = images.copy()
  transformation = optimizers.train_only({"params": optax.sgd(0.01)})
  objective = objectives.ann_objective(model, as_it_is)

  def batches():
    for n in range(1, 9):
      yield {"image": broken * (np.nan if n == 5 else 1), "label": labels}

  with Checkpoints(tmp_path / "phase") as checkpoints:
    state = parallel.replicate(mesh, step.new_state(variables, transformation))
    with pytest.raises(
      tcljax.TrainingDiverged, match=r"is nan at step 5; the last good checkpoint is .*phase/4;"
    ):
      one_by_one = step.train_step(step.one_step(objective, transformation, ["params"], 8))
      hooks = loop.Hooks(checkpoints=checkpoints, checkpoint_every=1)
      loop.fit(state, feeds.OneByOne(one_by_one, batches(), mesh), 8, seed=0, hooks=hooks)
    assert checkpoints.latest_step() == 4


def test_what_is_stopped_and_taken_up_again_ends_with_the_same_bits(case, tmp_path):
  """Between two checkpoints, at the one that is due, and at the last step."""
  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  objective = objectives.ann_objective(model, as_it_is)
  split, sgd = Split(images, labels), tcljax.OptimizerConfig("sgd", 0.01)
  run = phase.Phase("ann", 7, 8, objective, {"params": sgd}, seed=3)
  whole = phase.run_phase(run, lambda: variables, split, mesh)
  seen, stops = [], [2, 4, 7]
  with Checkpoints(tmp_path / "phase") as checkpoints:
    asked = lambda: loop.Asked(
      2 * (len(seen) + 1 in stops)
    )  # the metrics of a step come after the next one
    hooks = loop.Hooks(
      on_metrics=lambda step, *_: seen.append(step),
      checkpoints=checkpoints,
      checkpoint_every=4,
      asked=asked,
    )
    for step in stops:
      with pytest.raises(loop.Stopped, match=f"stopped after step {step} of 7, which is saved"):
        phase.run_phase(run, lambda: variables, split, mesh, hooks)
      assert checkpoints.latest_step() == step
    assert seen == list(range(1, 8))
    assert bits(phase.run_phase(run, lambda: variables, split, mesh, hooks)) == bits(whole)


def test_what_is_asked_to_be_saved_is_saved_and_training_goes_on(case, tmp_path):
  """With no number of steps between checkpoints; and with one, where both are saved."""
  model, variables, images, labels = case
  objective = objectives.ann_objective(model, as_it_is)
  split, sgd = Split(images, labels), tcljax.OptimizerConfig("sgd", 0.01)
  run = phase.Phase("ann", 7, 8, objective, {"params": sgd})
  for every, expected in ((0, [2, 5, 7]), (3, [2, 3, 5, 6, 7])):
    said = iter([loop.Asked.SAVE if step in (2, 5) else loop.Asked.NOTHING for step in range(1, 8)])
    with Checkpoints(tmp_path / str(every), kept=9) as checkpoints:
      hooks = loop.Hooks(checkpoints=checkpoints, checkpoint_every=every, asked=said.__next__)
      phase.run_phase(run, lambda: variables, split, parallel.data_mesh(), hooks)
      saved = sorted(int(path.name) for path in (tmp_path / str(every)).iterdir() if path.is_dir())
    assert saved == expected


def test_an_update_beyond_all_numbers_is_not_saved(case, tmp_path):
  model, variables, images, labels = case
  transformation = optimizers.train_only({"params": optax.sgd(1e30)})
  objective = objectives.ann_objective(model, as_it_is)
  mesh = parallel.data_mesh()
  with Checkpoints(tmp_path / "phase") as checkpoints:
    state = parallel.replicate(mesh, step.new_state(variables, transformation))
    with pytest.raises(tcljax.TrainingDiverged, match="update norm is inf at step 1; no"):
      one_by_one = step.train_step(step.one_step(objective, transformation, ["params"], 8))
      batches = training_batches(Split(images, labels), 16, 0)
      hooks = loop.Hooks(checkpoints=checkpoints, checkpoint_every=1)
      loop.fit(state, feeds.OneByOne(one_by_one, batches, mesh), 4, seed=0, hooks=hooks)
    assert checkpoints.latest_step() is None

import functools
import itertools

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.data import Split, training_batches
from tcljax.distributed import parallel
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import feeds, loop, objectives, optimizers, phase, step


@pytest.fixture(scope="module")
def case(vgg):
  model, variables = vgg
  rng = np.random.default_rng(4)
  images = rng.normal(size=(64, 8, 8, 3)).astype(np.float32)
  labels = rng.integers(0, 10, 64).astype(np.int32)
  return model, calibrate_plainly(model, variables, images, percentile=99), images, labels


def leaves(tree):
  return [np.asarray(a).copy() for a in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def to_tune(case):
  """A network that tells its inputs apart, with thresholds far too high for a few steps."""
  model, variables, images, _ = case
  head = variables["params"]["head"]
  params = {**variables["params"], "head": {**head, "kernel": 4 * head["kernel"]}}
  return calibrate_plainly(
    model, {**variables, "params": params}, images, method="maximum", per_channel=True
  )


ADAM = tcljax.OptimizerConfig("adamw", learning_rate=0.05)


def test_tuning_moves_thresholds_and_nothing_else(case, to_tune):
  model, _, images, labels = case
  variables = to_tune
  frozen = {c: leaves(variables[c]) for c in ("params", "batch_stats")}
  seen = []
  tuned = tcljax.tune(
    model,
    variables,
    images,
    labels,
    SpikingConfig(time_steps=4),
    steps=20,
    batch_size=32,
    optimizer=ADAM,
    on_metrics=lambda step, metrics: seen.append((step, metrics["loss"])),
  )
  for collection, before in frozen.items():
    for a, b in zip(before, leaves(tuned[collection]), strict=True):
      assert a.tobytes() == b.tobytes()
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).min()), variables["clipping"], tuned["clipping"]
  )
  assert min(jax.tree.leaves(moved)) > 0  # every threshold and every initial potential
  assert [step for step, _ in seen] == list(range(1, 21))
  losses = [loss for _, loss in seen]
  assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_loss_is_the_geometric_mean_over_the_steps_asked_for(case):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}

  def loss(steps, kind, at=()):
    objective = objectives.snn_objective(
      model,
      lambda x, key: jnp.asarray(x),
      SpikingConfig(time_steps=steps),
      parallel.data_mesh(),
      kind,
      at=at,
    )
    return objective(variables, batch, jax.random.key(0))[0]

  for kind in objectives.OBJECTIVES:
    shorter = [loss(t, kind) for t in (1, 4, 6)]
    assert abs(shorter[0] - shorter[2]) > 1e-3
    product = np.prod(shorter, dtype=np.float64)
    np.testing.assert_allclose(loss(6, kind, at=(4, 6, 1)), product ** (1 / 3), rtol=1e-4)


def test_a_loss_of_nothing_among_several_leaves_the_others_their_gradient():
  value, gradient = jax.value_and_grad(objectives.geometric_mean)(jnp.array([0.0, 0.5, 2.0]))
  assert value > 0 and gradient[0] == 0
  np.testing.assert_allclose(gradient[1:], value / 3 / np.array([0.5, 2.0]), rtol=1e-5)


def test_as_many_steps_as_fit_into_a_time(case, monkeypatch):
  """The clock is replaced: a second a reading, so a step of the trial takes one, compiling too."""
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
  run(minutes=0.25)  # 15 seconds: 4 for the trial, 1 to compile again, 10 steps
  assert seen == list(range(1, 11))
  seen.clear()
  run(minutes=0.01)
  assert seen == [1]


def test_many_steps_in_one_call_are_those_one_by_one(case, tmp_path, monkeypatch):
  """On the device and from the host: the same batches, metrics, checkpoints and weights."""
  from tcljax.distributed.checkpoints import Checkpoints

  model, variables, images, labels = case
  split = Split(images, labels)
  objective = objectives.ann_objective(model, lambda x, key: jnp.asarray(x))
  sgd = tcljax.OptimizerConfig("sgd", 0.01)
  run = phase.Phase("ann", 11, 16, objective, {"params": sgd}, seed=3)
  found = []
  for on_device in (False, True):
    monkeypatch.setattr(phase, "fits_on_device", lambda split, fits=on_device: fits)
    monkeypatch.setattr(feeds.OnDevice, "steps_a_call", 4)
    seen, begun = [], []
    with Checkpoints(tmp_path / str(on_device)) as checkpoints:
      hooks = loop.Hooks(
        begun.append, lambda n, one, seen=seen: seen.append((n, one)), checkpoints, 5
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


def run_to(run, steps, variables, split, hooks):
  """The first steps of a phase, with the schedule of all of them."""
  original = loop.fit
  shortened = lambda state, feed, _, **rest: original(state, feed, steps, **rest)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(phase, "fit", shortened)
    return phase.run_phase(run, lambda: variables, split, parallel.data_mesh(), hooks)


def test_where_images_fit_onto_the_device(case, monkeypatch):
  _, _, images, labels = case
  split = Split(images, labels)
  assert not feeds.fits_on_device(split)  # CPUs share their memory with the host

  class Device:
    def __init__(self, memory):
      self.memory = memory

    def memory_stats(self):
      return {"bytes_limit": self.memory}

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  for memory, fits in ((10 * images.nbytes, True), (9 * images.nbytes, False)):
    monkeypatch.setattr(jax, "local_devices", lambda memory=memory: [Device(memory)])
    assert feeds.fits_on_device(split) == fits


def test_frozen_dicts_are_taken(case):
  model, variables, images, labels = case
  tuned = tcljax.tune(model, flax.core.freeze(variables), images, labels, steps=1)
  assert set(tuned) == {"params", "batch_stats", "clipping"}


def test_the_optimizer_holds_nothing_for_what_is_frozen(case):
  _, variables, _, _ = case
  transformation = optimizers.train_only({"clipping": optax.adamw(0.1, weight_decay=0.1)})
  state = transformation.init(variables)
  sizes = sum(a.size for a in jax.tree.leaves(variables["clipping"]))
  held = [a for a in jax.tree.leaves(state) if a.ndim or a.dtype == jnp.float32]
  assert sum(a.size for a in held) == 2 * sizes  # Adam's two moments of the thresholds
  updates, _ = transformation.update(variables, state, variables)
  for collection in ("params", "batch_stats"):
    assert not any(np.any(u) for u in jax.tree.leaves(updates[collection]))
  assert all(np.all(u) for u in jax.tree.leaves(updates["clipping"]))


def test_a_collection_without_a_rule_is_told():
  transformation = optimizers.train_only({"params": optax.sgd(0.1)})
  with pytest.raises(ValueError, match="collection 'adapters' is neither trained nor frozen"):
    transformation.init({"params": jnp.ones(2), "adapters": jnp.ones(2)})


def test_weight_decay_spares_biases_norms_and_thresholds():
  tree = {"params": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
  for name in optimizers.OPTIMIZERS:
    config = optimizers.OptimizerConfig(name, learning_rate=0.5, weight_decay=0.1)
    transformation = optimizers.train_only({"params": config.transformation(10)})
    zero = jax.tree.map(jnp.zeros_like, tree)
    updates, _ = transformation.update(zero, transformation.init(tree), tree)
    assert np.all(updates["params"]["kernel"] < 0), name
    np.testing.assert_array_equal(updates["params"]["bias"], 0)


def test_schedule_warms_up_and_decays():
  def step_sizes(config):
    transformation = config.transformation(10)
    parameters = jnp.zeros(1)
    state, sizes = transformation.init(parameters), []
    for _ in range(10):
      update, state = transformation.update(jnp.ones(1), state, parameters)
      sizes.append(-float(update[0]))
    return sizes

  sizes = step_sizes(optimizers.OptimizerConfig("sgd", 1.0, warmup_steps=4, momentum=0.0))
  np.testing.assert_allclose(sizes[:5], [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
  assert sizes[4:] == sorted(sizes[4:], reverse=True) and sizes[-1] < 0.1
  limited = step_sizes(optimizers.OptimizerConfig("sgd", 1.0, momentum=0.0, clip_norm=0.5))
  np.testing.assert_allclose(limited[0], 0.5)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"name": "adagrad"}, "name='adagrad' is unknown: choose one of sgd, adamw"),
    ({"learning_rate": -1.0}, "learning_rate=-1.0 must be finite and not negative"),
    ({"clip_norm": float("inf")}, "clip_norm=inf"),
  ],
)
def test_bad_optimizers(fields, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OptimizerConfig(**fields)


def test_cross_entropy_and_distillation_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
  np.testing.assert_allclose(objectives.cross_entropy(logits, jnp.array([0])), np.log(2), rtol=1e-6)
  # smoothing 0.3: targets 0.8, 0.1, 0.1
  np.testing.assert_allclose(
    objectives.cross_entropy(logits, jnp.array([0]), 0.3),
    0.8 * np.log(2) + 0.2 * np.log(4),
    rtol=1e-6,
  )
  teacher = jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
  np.testing.assert_allclose(objectives.distillation(logits, teacher), 0.25 * np.log(2), rtol=1e-5)
  np.testing.assert_allclose(objectives.distillation(logits, logits + 3), 0, atol=1e-6)
  to_teacher = jax.grad(objectives.distillation, argnums=1)(logits, teacher)
  np.testing.assert_array_equal(to_teacher, 0)


@pytest.mark.parametrize("kind", objectives.OBJECTIVES)
def test_gradients_on_eight_devices_are_those_on_one(case, kind):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}

  def gradients(devices):
    mesh = jax.make_mesh(
      (devices,),
      ("data",),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:devices],
    )
    objective = objectives.snn_objective(
      model, lambda x, key: jnp.asarray(x), SpikingConfig(time_steps=4, chunk=2), mesh, kind
    )
    run = jax.jit(
      jax.value_and_grad(
        lambda c, batch: objective({**variables, "clipping": c}, batch, jax.random.key(0))[0]
      )
    )
    return run(parallel.replicate(mesh, variables["clipping"]), parallel.shard(mesh, batch))

  one, eight = (jax.device_get(gradients(n)) for n in (1, 8))
  chex.assert_trees_all_close(one, eight, rtol=2e-3, atol=1e-5)
  assert max(np.abs(g).max() for g in jax.tree.leaves(one[1])) > 1e-3


def test_one_compilation_for_a_whole_run(case):
  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  transformation = optimizers.train_only({"clipping": optax.adam(0.01)})
  objective = objectives.snn_objective(
    model, lambda x, key: jnp.asarray(x), SpikingConfig(time_steps=2), mesh
  )
  counted = chex.assert_max_traces(objective, n=1)
  feed = feeds.OneByOne(
    step.train_step(counted, transformation, ["clipping"]),
    training_batches(Split(images, labels), 16, 0),
    mesh,
  )
  state = parallel.replicate(mesh, step.new_state(variables, transformation))
  state = loop.fit(state, feed, 4, seed=0, hooks=loop.Hooks())
  assert int(state.step) == 4


def test_divergence_names_the_step_and_saves_nothing(case, tmp_path):
  from tcljax.distributed.checkpoints import Checkpoints

  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  broken = images.copy()
  transformation = optimizers.train_only({"params": optax.sgd(0.01)})
  objective = objectives.ann_objective(model, lambda x, key: jnp.asarray(x))

  def batches():
    for n in range(1, 9):
      yield {"image": broken * (np.nan if n == 5 else 1), "label": labels}

  with Checkpoints(tmp_path / "phase") as checkpoints:
    state = parallel.replicate(mesh, step.new_state(variables, transformation))
    with pytest.raises(
      tcljax.TrainingDiverged, match=r"is nan at step 5; the last good checkpoint is .*phase/4;"
    ):
      one_by_one = step.train_step(objective, transformation, ["params"])
      hooks = loop.Hooks(checkpoints=checkpoints, checkpoint_every=1)
      loop.fit(state, feeds.OneByOne(one_by_one, batches(), mesh), 8, seed=0, hooks=hooks)
    assert checkpoints.latest_step() == 4


def test_an_update_beyond_all_numbers_is_not_saved(case, tmp_path):
  from tcljax.distributed.checkpoints import Checkpoints

  model, variables, images, labels = case
  transformation = optimizers.train_only({"params": optax.sgd(1e30)})
  objective = objectives.ann_objective(model, lambda x, key: jnp.asarray(x))
  mesh = parallel.data_mesh()
  with Checkpoints(tmp_path / "phase") as checkpoints:
    state = parallel.replicate(mesh, step.new_state(variables, transformation))
    with pytest.raises(tcljax.TrainingDiverged, match="update norm is inf at step 1; no"):
      one_by_one = step.train_step(objective, transformation, ["params"])
      batches = training_batches(Split(images, labels), 16, 0)
      hooks = loop.Hooks(checkpoints=checkpoints, checkpoint_every=1)
      loop.fit(state, feeds.OneByOne(one_by_one, batches, mesh), 4, seed=0, hooks=hooks)
    assert checkpoints.latest_step() is None


def test_bad_tuning_input(case):
  model, variables, images, labels = case
  with pytest.raises(ValueError, match="batch_size=12 cannot be split over 8 devices"):
    tcljax.tune(model, variables, images, labels, batch_size=12)
  with pytest.raises(ValueError, match="objective='mse' is unknown"):
    tcljax.tune(model, variables, images, labels, objective="mse")
  with pytest.raises(ValueError, match=r"run tcljax\.calibrate first"):
    tcljax.tune(model, {"params": variables["params"]}, images, labels)
  with pytest.raises(ValueError, match="labels run from 1 to 10"):
    tcljax.tune(model, variables, images, labels % 2 * 9 + 1)
  with pytest.raises(ValueError, match=r"optimizer='adamw' must be a tcljax.OptimizerConfig"):
    tcljax.tune(model, variables, images, labels, optimizer="adamw")
  with pytest.raises(ValueError, match="steps=-2 must be at least 1"):
    tcljax.tune(model, variables, images, labels, steps=-2)
  with pytest.raises(ValueError, match="minutes=nan must be finite"):
    tcljax.tune(model, variables, images, labels, minutes=float("nan"))
  with pytest.raises(ValueError, match=r"at=\(4, 0\): 0 is no number .* to time_steps=8"):
    tcljax.tune(model, variables, images, labels, at=(4, 0))
  with pytest.raises(ValueError, match="at=4 must be a sequence"):
    tcljax.tune(model, variables, images, labels, at=4)
  with pytest.raises(ValueError, match="minutes=inf must be finite"):
    tcljax.tune(model, variables, images, labels, minutes=float("inf"))
  with pytest.raises(tcljax.TrainingDiverged, match="at step 1; are all inputs finite"):
    tcljax.tune(model, variables, images * np.inf, labels, steps=2)
  with pytest.raises(ValueError, match="64 images have 5 labels"):
    tcljax.tune(model, variables, images, labels[:5])
  with pytest.raises(ValueError, match="no images to train on"):
    tcljax.tune(model, variables, images[:0], labels[:0])

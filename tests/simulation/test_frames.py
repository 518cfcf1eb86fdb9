"""Sequences in place of a constant image: frame t for step t, through every public function."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly

import tcljax

T, N = 6, 16


class Net(nn.Module):
  """Two layers of neurons and a readout."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    for name, width in (("a", 12), ("b", 8)):
      x = self.act(name=name)(nn.Dense(width)(x))
    return nn.Dense(3)(x)


class Identity(nn.Module):
  """A network without neurons."""

  act: object = None

  def __call__(self, x):
    return x


def frames_of(chunk=0, **settings):
  return tcljax.SpikingConfig(T, chunk, encoding="frames", **settings)


@pytest.fixture(scope="module")
def sequences():
  """Frames that differ, [N, T, 5]."""
  return np.random.default_rng(0).normal(0.5, 1, (N, T, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def made(sequences):
  model = Net()
  mean = sequences.mean(axis=1)
  return model, calibrate_plainly(model, model.init(jax.random.key(0), mean), mean, percentile=99)


@functools.partial(jax.jit, static_argnums=(0, 3))
def every_answer(model, variables, x, spiking):
  return tcljax.simulate(model, variables, x, spiking, observe=lambda chunk: chunk.logits).observed


def loop(variables, x):
  """The answers after each step by NumPy, one example and one step at a time."""
  params, clipping = jax.tree.map(np.asarray, (variables["params"], variables["clipping"]))
  dense = lambda i, x: x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
  tau = {name: np.logaddexp(held["raw_threshold"], 0) for name, held in clipping.items()}
  answers = []
  for sequence in np.moveaxis(x, 1, 0):
    v = {name: held["v_init"] * tau[name] for name, held in clipping.items()}
    outputs = []
    for x in sequence:
      for i, name in enumerate("ab"):
        v[name] = v[name] + dense(i, x)
        x = (v[name] >= tau[name]) * tau[name]
        v[name] = v[name] - x
      outputs.append(dense(2, x))
    answers.append(np.cumsum(outputs, axis=0) / np.arange(1, len(sequence) + 1)[:, None])
  return np.stack(answers, axis=1)


@pytest.mark.parametrize("chunk", [1, 3])
def test_each_step_takes_its_own_frame(made, sequences, chunk):
  model, variables = made
  x = np.moveaxis(sequences, 1, 0)
  found = every_answer(model, variables, x, frames_of(chunk))
  np.testing.assert_allclose(found, loop(variables, x), rtol=1e-4, atol=1e-5)


def test_frames_that_are_the_same_are_a_constant_input(made, sequences):
  model, variables = made
  image = sequences[:, 0]
  constant = every_answer(model, variables, image, tcljax.SpikingConfig(T, 2))
  same = np.broadcast_to(image, (T, *image.shape))
  np.testing.assert_array_equal(every_answer(model, variables, same, frames_of(2)), constant)


def test_answers_have_seen_as_many_frames_as_steps(sequences):
  x = np.moveaxis(sequences, 1, 0)
  seen = np.cumsum(x, axis=0) / np.arange(1, T + 1)[:, None, None]
  found = every_answer(Identity(), {"clipping": {}}, x, frames_of(2))
  np.testing.assert_allclose(found, seen, rtol=1e-5, atol=1e-6)
  delayed = every_answer(Identity(), {"clipping": {}}, x, frames_of(3, delay=2))
  np.testing.assert_allclose(delayed[-1], x[2:].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_frame(made, sequences):
  model, variables = made
  x = jnp.moveaxis(jnp.asarray(sequences), 1, 0)

  def loss(run, chunk):
    spiking = frames_of(chunk)
    return jax.jit(jax.grad(lambda x: (run(x, spiking).logits * x[0, :, :3]).sum()))(x)

  sums = loss(lambda x, s: tcljax.simulate(Identity(), {"clipping": {}}, x[..., :3], s), 2)
  np.testing.assert_allclose(sums[1:, :, :3], jnp.tile(x[:1, :, :3] / T, (T - 1, 1, 1)), rtol=1e-5)
  run = functools.partial(tcljax.simulate, model, variables)
  found = loss(run, 2)
  assert np.all(np.abs(found).max(axis=(1, 2)) > 1e-4)
  np.testing.assert_allclose(found, loss(run, 6), rtol=1e-4, atol=1e-6)


def test_frames_become_floating_point_as_they_are_taken():
  """Memory is that of the input, whose bytes are not all turned to float32 at once."""
  x = jax.ShapeDtypeStruct((64, 8, 1000), np.uint8)
  spiking = tcljax.SpikingConfig(64, 2, encoding="frames")
  run = lambda x: tcljax.simulate(Identity(), {"clipping": {}}, x, spiking).logits
  memory = jax.jit(run).lower(x).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 64 * 8 * 1000


def test_thresholds_are_those_of_the_mean_frame(made, sequences):
  model, variables = made
  x, mean = np.moveaxis(sequences, 1, 0), sequences.mean(axis=1)
  found = tcljax.calibrate(model, variables, [x[:, :7], x[:, 7:]], frames_of())
  wanted = tcljax.calibrate(model, variables, [mean], tcljax.SpikingConfig(T))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5), found["clipping"], wanted["clipping"]
  )


def test_an_evaluation_splits_examples_over_devices_and_not_time(made, sequences):
  model, variables = made
  labels = np.arange(N) % 3
  found = tcljax.evaluate(model, variables, sequences, labels, frames_of(), batch_size=N)
  mean = sequences.mean(axis=1)
  for accuracy, act in ((found.ann, tcljax.ReLU), (found.clipped, tcljax.TCL)):
    answers = model.clone(act=act).apply(variables, mean).argmax(-1)
    assert accuracy == pytest.approx(100 * np.mean(answers == labels))
  answers = loop(variables, np.moveaxis(sequences, 1, 0)).argmax(-1)
  np.testing.assert_allclose(found.snn, 100 * np.mean(answers == labels, axis=1), rtol=1e-5)


def test_a_diagnosis_compares_with_the_mean_frame(made, sequences):
  model, variables = made
  found = tcljax.diagnose(model, variables, sequences, frames_of(), batch_size=7)
  assert max(found["a"].inherited, found["a"].pooling) < 1e-5 and found["a"].unevenness > 0.01
  same = np.broadcast_to(sequences[:, :1], sequences.shape)
  assert tcljax.diagnose(model, variables, same, frames_of(), batch_size=7)["a"].unevenness < 1e-5


def test_the_teacher_sees_the_mean_frame(made, sequences):
  model, variables = made
  losses = []
  tuned = tcljax.tune(
    model,
    variables,
    sequences,
    np.zeros(N, int),
    frames_of(),
    steps=2,
    batch_size=N,
    objective="squared_error",
    on_metrics=lambda step, metrics: losses.append(metrics["answer_loss"]),
  )
  ann = model.apply(variables, sequences.mean(axis=1))
  spiking = loop(variables, np.moveaxis(sequences, 1, 0))[-1]
  assert losses[0] == pytest.approx(float(np.square(spiking - ann).mean()), rel=1e-3)
  assert not np.array_equal(*(tcljax.thresholds(v)["a"] for v in (variables, tuned)))


@pytest.fixture(scope="module")
def network(made):
  return tcljax.convert(*made, (5,), frames_of())


def test_a_converted_network_takes_as_many_steps_as_frames(network, made, sequences, tmp_path):
  tcljax.save(network, tmp_path / "network")
  loaded = tcljax.load(tmp_path / "network")
  assert loaded.spiking.encoding == "frames"
  x = np.moveaxis(sequences, 1, 0)
  wanted = loop(made[1], x)
  np.testing.assert_allclose(loaded(x), wanted[-1], rtol=1e-4, atol=1e-5)
  for frames in (x[:2], np.asarray(x[:4])):
    np.testing.assert_allclose(loaded(frames), wanted[len(frames) - 1], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(loaded(x, time_steps=6), loaded(x))


def test_sequences_leave_early(network, made, sequences):
  x = np.concatenate([np.moveaxis(sequences, 1, 0)] * 2, axis=1)  # 32: the batch shrinks
  answers = loop(made[1], x)
  gaps = np.sort(answers, axis=-1)
  gaps = gaps[..., -1] - gaps[..., -2]
  margin = float(np.quantile(gaps, 0.6))
  expected = [next((t for t in range(1, T) if gap[t - 1] >= margin), T) for gap in gaps.T]
  found = tcljax.answer_early(network, x, margin)
  assert len(set(expected)) >= 3
  np.testing.assert_array_equal(found.time_steps, expected)
  wanted = answers[np.asarray(expected) - 1, np.arange(2 * N)]
  np.testing.assert_allclose(found.logits, wanted, rtol=1e-4, atol=1e-5)
  exact = tcljax.choose_margin(network, [x[:, :9], x[:, 9:]], changed=0)
  early = tcljax.answer_early(network, x, exact).logits.argmax(-1)
  np.testing.assert_array_equal(early, answers[-1].argmax(-1))


LABELS = np.zeros(N, int)
DOORS = {
  "simulate": lambda m, v, n, x: tcljax.simulate(m, v, np.moveaxis(x, 1, 0), frames_of()),
  "calibrate": lambda m, v, n, x: tcljax.calibrate(m, v, [np.moveaxis(x, 1, 0)], frames_of()),
  "evaluate": lambda m, v, n, x: tcljax.evaluate(m, v, x, LABELS, frames_of()),
  "diagnose": lambda m, v, n, x: tcljax.diagnose(m, v, x, frames_of()),
  "tune": lambda m, v, n, x: tcljax.tune(m, v, x, LABELS, frames_of(), batch_size=8),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_other_numbers_of_frames_than_of_steps_are_told(made, network, sequences, door):
  with pytest.raises(ValueError, match=r"has 4 frames and time_steps=6: with encoding='frames' g"):
    door(*made, network, sequences[:, :4])


def test_what_are_no_frames_for_a_converted_network_is_told(network, sequences):
  x = np.moveaxis(sequences, 1, 0)
  with pytest.raises(ValueError, match="time_steps=8 and inputs have 6 frames: leave it out"):
    network(x, time_steps=8)
  with pytest.raises(ValueError, match=r"shape \(16, 5\), expected \(time steps, batch, 5\)"):
    network(sequences[:, 0])
  with pytest.raises(ValueError, match=r"x has shape \(6, 0, 5\) and must be frames of at least "):
    tcljax.answer_early(network, x[:, :0], 1)
  with pytest.raises(ValueError, match=r"x has shape \(6,\) and must be frames of at least one"):
    tcljax.simulate(Net(), network.variables, x[:, 0, 0], frames_of())

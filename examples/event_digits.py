"""Digits that move before an event camera, recognised by a spiking network: library calls alone.

    python examples/event_digits.py

It trains a small network on the mean of the frames of each recording, converts it, and lets the
spiking network take one frame in each time step. It reaches 95.56 % with the ANN and 94.72 % with
the spiking network at T = 16, and takes some two and a half minutes of one core's time.
`configs/event_digits.py` does the same by `train.py`, with a larger network.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax

import tcljax
from tcljax.data import load_dataset

STEPS, TIME_STEPS = 400, 16


class Net(nn.Module):
  """Two convolutions and two dense layers."""

  act: type = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    """Logits [B, 10] of frames [B, H, W, 2]."""
    for name, width in (("first", 16), ("second", 32)):
      x = nn.Conv(width, (3, 3), conv_general_dilated=tcljax.convolve)(x)
      x = nn.avg_pool(self.act(name=name)(x), (2, 2), (2, 2))
    x = self.act(name="hidden")(nn.Dense(64)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


def train(images, labels, steps):
  """The weights of the ANN, trained as any other: it sees images, and knows nothing of time."""
  variables = Net().init(jax.random.key(0), images[:1])
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
  state = optimizer.init(variables)

  @jax.jit
  def step(variables, state, x, y):
    def loss(variables):
      logits = Net().apply(variables, x)
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    update, state = optimizer.update(jax.grad(loss)(variables), state)
    return optax.apply_updates(variables, update), state

  rng = np.random.default_rng(0)
  for _ in range(steps):
    batch = rng.integers(len(images), size=64)
    variables, state = step(variables, state, images[batch], labels[batch])
  return variables


def main(steps=STEPS, tuning_steps=STEPS):
  """Returns the accuracy of the ANN and of the spiking network on recordings held out."""
  digits = load_dataset(f"event_digits/{TIME_STEPS}")
  # [N, T, H, W, 2]: counts of events, so scaled that their mean over time is of the order of one.
  sequences, test = (10 * part.images.astype(np.float32) for part in (digits.train, digits.test))
  variables = train(sequences.mean(axis=1), digits.train.labels, steps)

  # Neurons wait for frames to come: instalments from 0 on, and answers of the second half alone.
  spiking = tcljax.SpikingConfig(TIME_STEPS, encoding="frames", delay=TIME_STEPS // 2)
  batch = np.moveaxis(sequences[:512], 1, 0)  # what is simulated has time first
  variables = tcljax.calibrate(
    Net(), variables, [batch], spiking, v_init=0.0, instalments=TIME_STEPS
  )
  tune = functools.partial(tcljax.tune, steps=tuning_steps, batch_size=64)
  variables = tune(Net(), variables, sequences, digits.train.labels, spiking)
  found = tcljax.evaluate(Net(), variables, test, digits.test.labels, spiking)
  print(f"ANN on the mean frame {found.ann:.2f} %, SNN {found.snn[-1]:.2f} %")

  network = tcljax.convert(Net(), variables, input_shape=sequences.shape[2:], spiking=spiking)
  answers = network(np.moveaxis(test, 1, 0)).argmax(axis=-1)
  print(f"converted {100 * np.mean(answers == digits.test.labels):.2f} %")
  return found.ann, found.snn[-1]


if __name__ == "__main__":
  main()

"""A U-Net that names the digit at every pixel of a scene, converted to a spiking network.

    python examples/unet.py

Makes scenes of several of scikit-learn's digits, those of training from other digits than those of
the test; trains a U-Net on them; finds thresholds for T = 32 steps by `calibrate` and `tune`, which
needs no labels; and measures accuracy and mean intersection over union of the ANN, the clipped
network and the spiking network at every T; docs/results.md has the figures. Takes some minutes on
two cores, and saves nothing unless told where, --save=FOLDER.
"""

import argparse
import functools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import tcljax

SIDE, MOST_DIGITS, INK = 32, 6, 4  # pixels of at least 4 of 16 belong to a digit
CLASSES = 11  # class 0 is the background, class d + 1 the digit d
Scenes = tuple[np.ndarray, np.ndarray]


def make_scenes(digits: np.ndarray, numbers: np.ndarray, count: int, seed: int) -> Scenes:
  """Scenes [N, 32, 32, 1] of up to 6 digits that do not touch, and class numbers [N, 32, 32].

  Args:
    digits: pictures from 0 to 16, [M, 8, 8], from which each scene draws.
    numbers: which digits these are, [M].
    count: N.
    seed: of the draw and of the places.
  """
  rng = np.random.default_rng(seed)
  images = np.zeros((count, SIDE, SIDE), np.float32)
  labels = np.zeros((count, SIDE, SIDE), np.int32)
  size = digits.shape[1]
  for image, label in zip(images, labels, strict=True):
    free = np.ones((SIDE - size + 1, SIDE - size + 1), bool)  # for the upper left corner
    for _ in range(rng.integers(1, MOST_DIGITS + 1)):
      if not free.any():
        break
      y, x = rng.choice(np.argwhere(free))
      one = rng.integers(len(digits))
      image[y : y + size, x : x + size] = digits[one]
      label[y : y + size, x : x + size] = (digits[one] >= INK) * (numbers[one] + 1)
      free[max(0, y - size + 1) : y + size, max(0, x - size + 1) : x + size] = False
  return images[..., None] / 16, labels


class Block(nn.Module):
  """Two convolutions, each with BatchNorm and ReLU."""

  width: int

  @nn.compact
  def __call__(self, x, train=False):
    """From [B, H, W, C] to [B, H, W, width]."""
    for i in (1, 2):
      x = nn.Conv(self.width, (3, 3), use_bias=False, name=f"conv{i}")(x)
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm{i}")(x)
      x = nn.relu(x)
    return x


class UNet(nn.Module):
  """Down by average pooling, up by transposed convolution, joined by concatenation."""

  widths: tuple[int, ...] = (16, 24, 32)

  @nn.compact
  def __call__(self, x, train=False):
    """From [B, H, W, C] to logits [B, H, W, classes]."""
    skips = []
    for level, width in enumerate(self.widths[:-1]):
      x = Block(width, name=f"down{level}")(x, train)
      skips.append(x)
      x = nn.avg_pool(x, (2, 2), (2, 2))
    x = Block(self.widths[-1], name="bottom")(x, train)
    for level, skip in reversed(list(enumerate(skips))):
      x = nn.ConvTranspose(self.widths[level], (2, 2), (2, 2), name=f"wider{level}")(x)
      x = jnp.concatenate([skip, x], axis=-1)
      x = Block(self.widths[level], name=f"up{level}")(x, train)
    return nn.Conv(CLASSES, (1, 1), name="head")(x)


def train(model: nn.Module, scenes: Scenes, steps: int, batch_size: int = 32):
  """The variables of a network trained by cross-entropy at each pixel."""
  images, labels = scenes
  variables = model.init(jax.random.key(0), images[:1])
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))

  @jax.jit
  def step(variables, state, x, y):
    def loss(params):
      logits, statistics = model.apply(
        {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
      )
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), statistics

    gradient, statistics = jax.grad(loss, has_aux=True)(variables["params"])
    update, state = optimizer.update(gradient, state)
    return {"params": optax.apply_updates(variables["params"], update), **statistics}, state

  rng, state = np.random.default_rng(0), optimizer.init(variables["params"])
  for _ in range(steps):
    batch = rng.integers(0, len(images), size=batch_size)
    variables, state = step(variables, state, images[batch], labels[batch])
  return variables


def run(
  scenes: int = 2000,
  steps: int = 500,
  tune_steps: int = 60,
  time_steps: int = 32,
  widths: tuple[int, ...] = UNet.widths,
  save: str = "",
) -> tcljax.Evaluation:
  """Trains, converts and measures a U-Net; what `python examples/unet.py` does.

  Args:
    scenes: how many to train on; a tenth as many to test.
    steps: of training.
    tune_steps: of tuning the thresholds.
    time_steps: T.
    widths: channels at each resolution.
    save: a folder for the spiking network; "" saves nothing.
  """
  start = time.perf_counter()
  tell = functools.partial(_tell, start)
  digits = load_digits()
  part = np.arange(len(digits.target)) % 5 > 0  # every fifth digit is for the test
  training = make_scenes(digits.images[part], digits.target[part], scenes, seed=0)
  test = make_scenes(digits.images[~part], digits.target[~part], scenes // 10, seed=1)
  unet, spiking = UNet(widths), tcljax.SpikingConfig(time_steps=time_steps)
  trained = train(unet, training, steps)
  tell(f"trained {steps} steps on {scenes} scenes")
  traced = tcljax.from_flax(unet, trained, training[0][:1])
  model = traced.model
  variables = tcljax.calibrate(model, traced.variables, [training[0][:256]], spiking)
  # A scene has a thousand answers to learn from, so that few scenes make a batch.
  variables = tcljax.tune(
    model, variables, training[0], spiking=spiking, steps=tune_steps, batch_size=8
  )
  tell(f"tuned {tune_steps} steps at T = {time_steps}")
  found = tcljax.evaluate(model, variables, *test, spiking, batch_size=40)
  iou = found.mean_iou
  tell(f"on {found.images} test scenes")
  print(f"ANN: mean IoU {iou['ann']:.2f} %, accuracy {found.ann:.2f} % of pixels")
  print(f"clipped: mean IoU {iou['clipped']:.2f} %, accuracy {found.clipped:.2f} %")
  for t in (2**i for i in range(1, time_steps.bit_length())):
    figures = iou["snn"][t - 1], found.snn[t - 1], found.agreement[t - 1]
    print(
      "SNN at T = {}: mean IoU {:.2f} %, accuracy {:.2f} %, as the ANN {:.2f} %".format(t, *figures)
    )
  if save:
    tcljax.save(tcljax.convert(model, variables, (SIDE, SIDE, 1), spiking), save)
    tell(f"saved to {save}")
  return found


def _tell(start: float, what: str) -> None:
  print(f"{time.perf_counter() - start:5.0f} s  {what}", flush=True)


def main() -> None:
  """Reads the flags and runs."""
  flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  flags.add_argument("--scenes", type=int, default=2000, help="scenes to train on")
  flags.add_argument("--steps", type=int, default=500, help="of training")
  flags.add_argument("--tune_steps", type=int, default=60, help="of tuning the thresholds")
  flags.add_argument("--time_steps", type=int, default=32, help="T")
  flags.add_argument("--save", default="", help="a new folder for the spiking network")
  run(**vars(flags.parse_args()))


if __name__ == "__main__":
  main()

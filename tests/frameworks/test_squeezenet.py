"""SqueezeNet with its published weights, written in three frameworks: one network all the same."""

import io

import jax
import numpy as np
import pytest
from PIL import Image
from real_data import IMAGENET, needs_squeezenet
from running import ROOT, calibrate_plainly

import tcljax

pytestmark = [pytest.mark.slow, needs_squeezenet]
SIZE = 64  # of the 227 pixels that it was trained with: each size runs through the same layers


@pytest.fixture(scope="module")
def images():
  """The centres of two photographs, less the mean, channels in the order blue, green, red."""
  with np.load(IMAGENET) as found:
    data, ends = found["jpeg"].tobytes(), found["offsets"]
  pixels = [
    np.asarray(Image.open(io.BytesIO(data[ends[i] : ends[i + 1]])).convert("RGB")) for i in range(2)
  ]
  centre = slice(128 - SIZE // 2, 128 + SIZE // 2)
  found = np.stack(pixels)[:, centre, centre, ::-1].astype(np.float32)
  return found - np.float32([103.94, 116.78, 123.68])


@pytest.fixture(scope="module")
def networks(images):
  """Traced by the adapter of each framework, with its inputs and the framework's own logits."""
  with pytest.MonkeyPatch.context() as patch, jax.numpy_rank_promotion("allow"):
    patch.syspath_prepend(ROOT / "benchmarks")
    import torch
    from zoo_networks import squeezenet

    weights = squeezenet.weights()
    module, variables = squeezenet.in_linen(weights)
    keras = squeezenet.in_keras(weights, SIZE)
    pytorch = squeezenet.in_torch(weights).eval()
    first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
      logits = pytorch(torch.from_numpy(first)).numpy()
    return {
      "linen": (
        tcljax.from_flax(module, variables, images),
        images,
        module.apply(variables, images),
      ),
      "keras": (tcljax.from_keras(keras), images, keras(images)),
      "torch": (tcljax.from_torch(pytorch, first), first, logits),
    }


def test_all_give_the_logits_of_the_one_of_flax(networks):
  expected = np.asarray(networks["linen"][2])
  for traced, x, own in networks.values():
    assert len(traced.populations) == 26
    for logits in (own, traced.model.apply(traced.variables, x)):
      np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_all_fire_the_same_spikes(networks, images):
  """Each neuron as many, with the thresholds that were found for the one of Flax."""
  spiking, counts = tcljax.SpikingConfig(time_steps=4), {}
  first = networks["linen"][0]
  found = calibrate_plainly(first.model, first.variables, images, spiking=spiking)["clipping"]
  thresholds = [found[name] for name in first.populations]
  for name, (traced, x, _) in networks.items():
    clipping = dict(zip(traced.populations, thresholds, strict=True))
    variables = {**traced.variables, "clipping": clipping}
    made = tcljax.convert(traced.model, variables, x.shape[1:], spiking)
    rates = tcljax.simulate(made.model, made.variables, x, spiking, rates=True).rates
    counts[name] = [4 * np.asarray(rates[of]["spikes"]) for of in made.graph.populations()]
  assert all(count.sum() > 0 for count in counts["linen"])
  for name in ("keras", "torch"):
    for one, other in zip(counts[name], counts["linen"], strict=True):
      np.testing.assert_array_equal(one, other, err_msg=name)

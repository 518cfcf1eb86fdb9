"""Where the images of training lie."""

import jax

from tcljax.data import Split
from tcljax.training import feeds


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

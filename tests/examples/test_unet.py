"""Scenes of digits, and the U-Net that is made spiking: in small, and in full with its bar."""

import runpy

import numpy as np
import pytest
from running import ROOT

import tcljax


@pytest.fixture
def example():
  return runpy.run_path(str(ROOT / "examples" / "unet.py"))


def test_digits_of_a_scene_do_not_touch(example):
  """Each picture holds another number everywhere, which shows where it lies in a scene."""
  digits = np.stack([np.full((8, 8), 5 + i) for i in range(3)])
  images, labels = example["make_scenes"](digits, np.array([0, 4, 9]), count=40, seed=0)
  assert images.shape == (40, 32, 32, 1) and labels.shape == (40, 32, 32)
  for image, label in zip(images[..., 0] * 16, labels, strict=True):
    for value, number in ((0, 0), (5, 1), (6, 5), (7, 10)):
      assert (label[image == value] == number).all()
    covered = (label > 0).sum()
    assert covered % 64 == 0 and 64 <= covered <= 6 * 64
  again, _ = example["make_scenes"](digits, np.array([0, 4, 9]), count=40, seed=0)
  np.testing.assert_array_equal(images, again)


@pytest.mark.full
def test_the_example_runs_in_small(example, capsys):
  found = example["run"](scenes=80, steps=2, tune_steps=1, time_steps=2, widths=(2, 3))
  assert found.images == 8 and found.mean_iou["snn"].shape == (2,)
  assert "SNN at T = 2: mean IoU" in capsys.readouterr().out


@pytest.mark.full
def test_the_spiking_network_is_within_a_point_of_the_ann(example, tmp_path):
  found = example["run"](save=str(tmp_path / "unet"))
  assert found.mean_iou["ann"] > 80
  assert abs(found.mean_iou["snn"][-1] - found.mean_iou["ann"]) < 1
  network = tcljax.load(tmp_path / "unet")
  assert network(np.zeros((2, 32, 32, 1), np.float32)).shape == (2, 32, 32, 11)

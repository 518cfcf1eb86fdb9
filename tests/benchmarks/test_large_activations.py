"""The benchmark of large activations: its images, what is kept of earlier runs, and its table."""

import dataclasses
import io
import json
import types

import numpy as np
import pytest
from PIL import Image
from running import load_benchmark


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
  """With stand-ins for the network and for what is measured of it."""
  made = load_benchmark("large_activations")
  monkeypatch.setattr(made.squeezenet, "are_there", lambda: True)
  monkeypatch.setattr(made.squeezenet, "weights", dict)
  monkeypatch.setattr(made.squeezenet, "in_linen", lambda weights: (None, {}))
  monkeypatch.setattr(made.tcljax, "from_flax", lambda *_: types.SimpleNamespace(model=None))
  made.measured = []

  def thresholds(traced, images, spiking, method, minutes):
    made.measured.append((spiking.time_steps, method, len(images), minutes))
    late = 0 if method == "least_squares" else spiking.time_steps // 2
    return {}, dataclasses.replace(spiking, delay=late)

  found = types.SimpleNamespace(ann=58.0, snn=np.array([1.0, 50.0]))
  monkeypatch.setattr(made, "_thresholds", thresholds)
  monkeypatch.setattr(made.tcljax, "evaluate", lambda *_, **__: found)
  return made


def write_images(path, count=5):
  """Images of one colour each, red more and more."""
  parts = []
  for i in range(count):
    held = io.BytesIO()
    Image.new("RGB", (256, 256), (40 * i, 100, 200)).save(held, "JPEG", quality=100)
    parts.append(held.getvalue())
  offsets = np.cumsum([0, *map(len, parts)])
  np.savez(
    path, jpeg=np.frombuffer(b"".join(parts), np.uint8), offsets=offsets, labels=range(count)
  )
  return path


def test_images_are_read_in_their_order_with_blue_first(tmp_path, benchmark):
  images, labels = benchmark._read(write_images(tmp_path / "a.npz"))
  assert images.shape == (5, 227, 227, 3) and images.dtype == np.uint8
  assert labels.tolist() == [0, 1, 2, 3, 4]
  expected = [(200, 100, 40 * i) for i in range(5)]
  np.testing.assert_allclose(images[:, 100, 100].astype(int), expected, atol=3)


def test_figures_are_kept_if_they_are_of_the_same_images_and_minutes(tmp_path, benchmark):
  first, second = (write_images(tmp_path / f"{name}.npz") for name in "ab")

  def run(images, *arguments):
    benchmark.measured.clear()
    output = tmp_path / "table"
    assert benchmark.main([f"--images={images}", f"--output={output}", *arguments]) == 0
    return json.loads(output.with_suffix(".json").read_text())

  run(first, "--time_steps=2", "--methods=least_squares,tuned", "--minutes=1")
  assert benchmark.measured == [(2, "least_squares", 3, 1), (2, "tuned", 3, 1)]
  found = run(first, "--time_steps=2,4", "--methods=least_squares", "--minutes=1")
  assert benchmark.measured == [(4, "least_squares", 3, 1)]
  assert found["command"] == (
    "python benchmarks/large_activations.py --images=a.npz --minutes=1 --time_steps=2,4 "
    "--methods=least_squares,tuned"
  )
  assert found["images"] == 2 and found["ann"] == 58
  text = (tmp_path / "table.md").read_text()
  assert "| least_squares | 50.00 | 50.00 |" in text and "| tuned | 50.00 (last 1) |  |" in text
  run(first, "--time_steps=2", "--methods=least_squares,tuned", "--minutes=2")
  assert benchmark.measured == [(2, "tuned", 3, 2)]
  run(second, "--time_steps=2", "--methods=tuned", "--minutes=2")
  assert benchmark.measured == [(2, "tuned", 3, 2)]


def test_a_method_that_is_none_is_told_first(benchmark, capsys):
  with pytest.raises(SystemExit):
    benchmark.main(["--images=none.npz", "--methods=tuned,best"])
  assert "--methods=tuned,best: 'best' is none of least_squares, delivered" in (
    capsys.readouterr().err
  )

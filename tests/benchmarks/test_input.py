"""The benchmark of streamed input: its files, and how its figures are put together."""

import io

import pytest
from PIL import Image
from running import load_benchmark


@pytest.fixture
def benchmark():
  return load_benchmark("input")


def test_files_are_of_the_size_of_photographs(benchmark):
  data = benchmark.photograph(1)
  assert 50_000 < len(data) < 200_000
  assert Image.open(io.BytesIO(data)).size == (500, 400)
  assert benchmark.photograph(1) == data != benchmark.photograph(6)


def test_the_ratio_is_that_of_medians(benchmark):
  rows, shared = benchmark.summary({"tcljax": [100.0, 30.0, 50.0], "bare loop": [90.0, 100, 400]})
  assert rows[0] == {
    "system": "tcljax",
    "median": 50.0,
    "lowest": 30.0,
    "highest": 100.0,
    "rounds": 3,
  }
  assert shared == {"ratio": 0.5}


def test_numbers_that_cannot_be_are_told(benchmark, capsys):
  with pytest.raises(SystemExit):
    benchmark.main(["--rounds=0"])
  assert "must be at least 1" in capsys.readouterr().err

"""The benchmark for GPUs by pieces: traces, kinds of kernels, its work in small, its table."""

import gzip
import json

import pytest
from running import load_benchmark

from tcljax import VGG


@pytest.fixture
def benchmark():
  return load_benchmark("gpu")


@pytest.fixture
def profiled():
  return load_benchmark("profiled")


def name(what, pid, text, tid=None):
  event = {"ph": "M", "name": f"{what}_name", "pid": pid, "args": {"name": text}}
  return event if tid is None else {**event, "tid": tid}


def ran(pid, tid, kernel, microseconds):
  return {"ph": "X", "pid": pid, "tid": tid, "name": kernel, "ts": 0, "dur": microseconds}


def write_trace(folder, events):
  folder.mkdir(parents=True, exist_ok=True)
  with gzip.open(folder / "host.trace.json.gz", "wt") as file:
    json.dump({"traceEvents": events}, file)


def test_kernels_are_those_on_the_streams_of_a_gpu(tmp_path, profiled):
  names = [
    name("process", 1, "/device:GPU:0"),
    name("process", 2, "/host:CPU"),
    name("thread", 1, "Stream #14(Compute)", 10),
    name("thread", 1, "XLA Modules", 11),
    name("thread", 2, "Stream of the host", 10),
  ]
  write_trace(
    tmp_path / "plugins" / "run",
    [
      *names,
      ran(1, 10, "loop_add_fusion", 2.5),
      ran(1, 10, "gemm", 3),
      ran(1, 10, "loop_add_fusion", 1.5),
      ran(1, 11, "jit_run", 100),
      ran(2, 10, "a call", 100),
      {"ph": "C", "pid": 1, "tid": 10, "name": "counter"},
    ],
  )
  write_trace(tmp_path / "other", [*names, ran(1, 10, "gemm", 4)])
  assert profiled.kernels(tmp_path) == {"loop_add_fusion": (4.0, 2), "gemm": (7, 2)}


@pytest.mark.parametrize(
  "kernel, kind",
  [
    ("integrate_and_fire_gradient__2", "neurons"),
    ("sm90_xmma_fprop_implicit_gemm_f32f32_nhwckrsc_nhwc", "convolutions and products"),
    ("gemm_fusion_dot_general_2", "convolutions and products"),
    ("void cudnn::winograd_nonfused::winogradForwardData4x4", "convolutions and products"),
    ("void implicit_convolve_sgemm<float>", "convolutions and products"),
    ("loop_convert_fusion_10", "fusions"),  # no convolution
    ("loop_multiply_fusion", "fusions"),
    ("input_transpose_fusion_1", "copies and layouts"),
    ("MemcpyD2D", "copies and layouts"),
    ("void nhwcAddPaddingKernel<float>", "copies and layouts"),
    ("wrapped_convert_8", "rest"),
    ("Memset 3", "rest"),
  ],
)
def test_a_kernel_is_of_the_kind_that_its_name_says(profiled, kernel, kind):
  assert profiled.kind(kernel) == kind


def test_shares_add_up_and_the_longest_come_first(profiled):
  found = profiled.by_kind(
    {
      "loop_a_fusion": (1.0, 4),
      "gemm": (2.0, 1),
      "xmma": (4.0, 2),
      "Memset": (0.5, 8),
      "copy": (0.5, 1),
    }
  )
  assert found["kernel_ms"] == 8
  assert found["shares"] == {
    "neurons": 0.0,
    "convolutions and products": 75.0,
    "copies and layouts": 6.2,
    "fusions": 12.5,
    "rest": 6.2,
  }
  assert found["longest"] == [
    {"kernel": "xmma", "ms": 4.0, "calls": 2},
    {"kernel": "gemm", "ms": 2.0, "calls": 1},
    {"kernel": "loop_a_fusion", "ms": 1.0, "calls": 4},
  ]


def test_times_are_those_of_one_run(profiled, monkeypatch):
  runs = []
  monkeypatch.setattr(profiled, "kernels", lambda folder: {"gemm": (9000.0, 6)})
  assert profiled.profiled(lambda: runs.append(1)) == {"gemm": (3.0, 2)}
  assert len(runs) == 3


def test_without_a_gpu_one_line_says_so(tmp_path, benchmark, capsys):
  assert benchmark.main([f"--output={tmp_path / 'gpu'}"]) == 2
  captured = capsys.readouterr()
  assert captured.err == "gpu: this wants a GPU, and JAX finds cpu\n" and not captured.out
  assert not list(tmp_path.iterdir())


def test_an_unknown_part_is_told(benchmark, capsys):
  with pytest.raises(SystemExit):
    benchmark.main(["loading"])
  assert "loading: choose from simulation, tuning, phase1" in capsys.readouterr().err


@pytest.fixture
def small(benchmark, monkeypatch):
  """A network and numbers that a CPU runs in seconds, and kernels in place of a trace."""
  create = lambda name, num_classes, dtype="float32", **fields: VGG(
    num_classes=num_classes, stages=((4,),), dense=(), dtype=dtype, **fields
  )
  monkeypatch.setattr(load_benchmark("workload"), "create_model", create)
  monkeypatch.setattr(benchmark, "create_model", create)
  monkeypatch.setattr(benchmark, "profiled", lambda run: {"gemm": (3.0, 1), "a_fusion": (1.0, 2)})
  monkeypatch.setattr(benchmark, "_IMAGES", 64)
  monkeypatch.setattr(benchmark, "_WARM_UP", 2)
  monkeypatch.setattr(benchmark, "_DTYPES", ("float32",))
  monkeypatch.setattr(benchmark, "_CHUNKS", (1, 2))
  monkeypatch.setattr(benchmark, "_AUGMENTATIONS", {"none": benchmark._AUGMENTATIONS["none"]})
  monkeypatch.setattr(benchmark.jax, "default_backend", lambda: "gpu")
  return benchmark


@pytest.mark.slow
def test_its_work_in_small(tmp_path, small):
  flags = [
    *("--batch_size=8", "--time_steps=2", "--rounds=1", f"--output={tmp_path / 'gpu'}"),
    *("--tune_time_steps=2", "--train_batch_size=8", "--train_steps=70"),
  ]
  assert small.main(flags) == 0
  found = json.loads((tmp_path / "gpu.json").read_text())
  assert found["command"] == " ".join(
    ["python benchmarks/gpu.py", "--batch_size=8", "--time_steps=2", "--tune_time_steps=2"]
    + ["--train_batch_size=8", "--train_steps=70", "--rounds=1"]
  )
  one, two, tuned, phase = found["rows"]
  assert (one["chunk"], two["chunk"]) == (1, 2)
  for row in (one, two):
    assert row["images_per_second"] > 0 < row["ann_images_per_second"]
    ratio = row["ann_images_per_second"] / row["images_per_second"] / 2
    assert row["over_ann"] == pytest.approx(ratio, rel=1e-2)
    assert row["shares"]["convolutions and products"] == 75
  assert tuned["images_per_second"] > 0 and tuned["kernel_ms"] == 4
  assert phase["one_a_call"] > 0 < phase["many_a_call"]
  text = (tmp_path / "gpu.md").read_text()
  assert "8 images, T = 2;" in text and "## Phase 1" in text and "| float32 | 1 | `gemm` |" in text
  # A part measured anew leaves the other.
  assert small.main(["phase1", *flags]) == 0
  again = json.loads((tmp_path / "gpu.json").read_text())
  assert again["rows"][:3] == [one, two, tuned] and len(again["rows"]) == 4

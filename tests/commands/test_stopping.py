"""`train.py` as it ends early: by signals, closed pipes, full disks, and another run of its own."""

import errno
import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from matplotlib.figure import Figure
from running import DIGITS, ROOT, TINY, complaint, run_train
from states import bits, ended_with
from tensorboardX.event_file_writer import EventsWriter

from tcljax import files
from tcljax.commands import convert
from tcljax.conversion import storage

EVERY_STEP = "--config.log_every=1"


def start(workdir, *more, limit=None, stdout=subprocess.DEVNULL):
  """A run of its own, `limit` KiB a file."""
  limited = ["/bin/bash", "-c", 'ulimit -f "$0"; exec "$@"', str(limit)] if limit else []
  return subprocess.Popen(
    [
      *limited,
      sys.executable,
      ROOT / "train.py",
      DIGITS,
      f"--workdir={workdir}",
      *TINY,
      EVERY_STEP,
      *more,
    ],
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    # A cache of compiled programs would be written too, and complain by itself.
    env={k: v for k, v in os.environ.items() if not (limit and k == "JAX_COMPILATION_CACHE_DIR")},
  )


def until(condition, process):
  deadline = time.monotonic() + 120
  while not condition():
    assert time.monotonic() < deadline and process.poll() is None, process.communicate()
    time.sleep(0.01)


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_saved_and_ends_with_the_same_bits(workdir, tmp_path, number, status):
  stopped = tmp_path / "stopped"
  process = start(stopped)
  until(lambda: list((stopped / "ann").glob("*.files.json")), process)
  process.send_signal(number)
  _, err = process.communicate(timeout=60)
  assert process.returncode == status
  step = max(int(f.name) for f in (stopped / "ann").iterdir() if f.is_dir())
  assert err == (
    f"train: ann: stopped after step {step} of 40, which is saved; the same command goes on from "
    "there\n"
  )
  assert not (stopped / ".lock").exists()
  assert run_train(stopped, EVERY_STEP) == 0
  assert bits(ended_with(stopped)) == bits(ended_with(workdir))
  lines = (stopped / "metrics.jsonl").read_text().splitlines()
  steps = [(r["phase"], r["step"]) for r in map(json.loads, lines)]
  assert steps == [("ann", n) for n in range(1, 41)] + [("tuned", n) for n in range(1, 7)]


@pytest.mark.slow
def test_ctrl_c_while_the_test_set_is_measured(workdir, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  command = [sys.executable, ROOT / "train.py", DIGITS, f"--workdir={copy}", *TINY]
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
  )
  assert process.stdout
  while "evaluating on" not in process.stdout.readline():
    assert process.poll() is None
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=60)
  assert (process.returncode, err) == (
    130,
    "train: stopped; the same command goes on from what is saved\n",
  )


@pytest.mark.slow
def test_nobody_reads_the_output_any_more(tmp_path):
  """`train.py | head -1`."""
  process = start(tmp_path / "run", stdout=subprocess.PIPE)
  assert process.stdout and process.stdout.readline()
  process.stdout.close()
  assert process.stderr
  with process.stderr:
    assert process.stderr.read() == (
      "train: nobody reads the output any more: stopped; the same command goes on from what is "
      "saved\n"
    )
  assert process.wait() == 141


def test_nobody_reads_the_help(tmp_path):
  """Nor an output that is a full disk."""
  for target, status, line in (
    (None, 141, "train: nobody reads the output any more"),
    ("/dev/full", 2, "train: output: No space left on device"),
  ):
    reading, writing = os.pipe()
    os.close(reading)
    with open(target or os.devnull, "w") as file:
      done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--help"],
        stdout=file if target else writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
      )
    os.close(writing)
    assert done.returncode == status and done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  "limit",
  [pytest.param(n, marks=pytest.mark.slow if n < 8 else pytest.mark.full) for n in (1, 3, 8, 20)],
)
def test_a_limit_of_a_files_size_is_told_in_one_line(tmp_path, limit):
  """Whatever comes first: the config, metrics, TensorBoard's file, a checkpoint or a picture."""
  run = tmp_path / "run"
  process = start(run, "--config.train.steps=6", limit=limit)
  _, err = process.communicate(timeout=120)
  assert process.returncode == 2 and err.count("\n") == 1, err
  assert f"train: {run}" in err and "cannot be written: File too large; what was saved" in err
  # Room was made: it goes on, and nothing that was saved stands in its way.
  assert run_train(run, EVERY_STEP, "--config.train.steps=6") == 0


@pytest.fixture
def to_be_tuned(workdir, tmp_path):
  """A run that lacks its last steps and its report."""
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  for place in ("tuned/6", "tuned/6.files.json", "results.json", "accuracy.png"):
    path = copy / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  return copy


def test_as_many_checkpoints_stay_as_the_config_says(to_be_tuned):
  stored = to_be_tuned / "config.json"
  text = stored.read_text()
  assert '"checkpoints_kept": 2' in text and (to_be_tuned / "tuned" / "5").is_dir()
  stored.write_text(text.replace('"checkpoints_kept": 2', '"checkpoints_kept": 1'))
  assert run_train(to_be_tuned, "--config.checkpoints_kept=1") == 0
  assert [f.name for f in (to_be_tuned / "tuned").iterdir() if f.is_dir()] == ["6"]


@pytest.mark.parametrize(
  "where, name, place",
  [
    (EventsWriter, "write_event", "tensorboard/tuned"),
    (EventsWriter, "close", "tensorboard/tuned"),
    (Figure, "savefig", "accuracy.png"),
    (json, "dumps", "metrics.jsonl"),
  ],
)
# tensorboardX leaves the file that it could not write to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_in_one_line(to_be_tuned, capsys, monkeypatch, where, name, place):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    if where is json:  # the record of a step
      patch.setattr("tcljax.reporting.progress.json", FullOfRecords)
    else:
      patch.setattr(where, name, full)
    assert run_train(to_be_tuned) == 2
  captured = capsys.readouterr()
  assert captured.err == (
    f"train: {to_be_tuned / place} cannot be written: No space left on device; what was saved "
    "before stays: make room on the disk, and the same command goes on from there\n"
  )
  assert run_train(to_be_tuned) == 0 and (to_be_tuned / "accuracy.png").exists()
  gc.collect()  # what it complains of is of this test


class FullOfRecords:
  loads = json.loads

  @staticmethod
  def dumps(record):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_a_network_is_written(workdir, tmp_path, capsys, monkeypatch):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(storage, "write_arrays", full)
  output = tmp_path / "snn"
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={output}"]) == 2
  assert (
    complaint(capsys) == f"convert: output {output} cannot be written: No space left on device\n"
  )
  assert list(tmp_path.iterdir()) == []


def test_two_runs_in_one_workdir_or_output(workdir, tmp_path, capsys):
  copy, output = tmp_path / "copy", tmp_path / "snn"
  shutil.copytree(workdir, copy)
  before = {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()}
  with files.locked(copy / ".lock", "another run"):
    assert run_train(copy) == 2
    assert f"workdir {copy} is in use by process {os.getpid()} on " in (line := complaint(capsys))
    assert "wait until it has ended, stop it, or choose another place" in line
  with files.locked(tmp_path / ".snn.lock", "another run"):
    assert convert.main(["convert.py", f"--workdir={copy}", f"--output={output}"]) == 2
    assert f"output {output} is in use by process" in complaint(capsys)
  assert before == {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()}
  assert not output.exists()


def test_what_takes_no_data_is_checked_before_the_data(workdir, tmp_path, capsys, monkeypatch):
  """Which may take minutes to load."""

  def slow(*_, **__):
    raise AssertionError("the data set was loaded")

  monkeypatch.setattr("tcljax.runs.experiment.load_dataset", slow)
  (tmp_path / "net.npz").write_bytes(b"no archive")
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "cat.jpg").touch()
  begun = tmp_path / "begun"
  begun.mkdir()
  shutil.copy(workdir / "config.json", begun)
  run = tmp_path / "run"
  for path, flag, message in (
    (run, f"--config.pretrained={tmp_path / 'none.pt'}", "none.pt does not exist"),
    (run, f"--config.pretrained={tmp_path / 'net.npz'}", "net.npz cannot be read, it may be damag"),
    (run, f"--config.pretrained={ROOT / 'README.md'}", "README.md is no checkpoint by its name"),
    (run, f"--config.pretrained={tmp_path}", "config.json does not exist: is"),
    (run, f"--config.pretrained={begun}", "is not finished, its phase 'tuned' has not begun"),
    (run, "--config.model.name=alexnet", "model.name='alexnet' is unknown"),
    (tmp_path / "photos", EVERY_STEP, "is not empty and holds no config.json"),
    (workdir, "--config.seed=1", "holds another config"),
    (pathlib.Path("/dev/null/run"), EVERY_STEP, "cannot be written: /dev/null is no directory"),
  ):
    assert run_train(path, flag) == 2
    assert message in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={begun}", f"--output={tmp_path / 'snn'}"]) == 2
  assert "is not finished, its phase 'tuned' has not begun" in complaint(capsys)
  assert not run.exists()

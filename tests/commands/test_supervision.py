"""Processes of several hosts: the last line says which one was lost."""

import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from running import DIGITS, ROOT, TINY, run_train

from tcljax.commands import supervision
from tcljax.commands.supervision import _lost

FATAL = (
  b"F client.h:80] Terminating process because the JAX distributed service detected fatal errors"
)
UNHEALTHY = (
  b"%s UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n%s\nThe"
)


@pytest.mark.parametrize(
  "status, said, lost",
  [
    (-6, UNHEALTHY % (FATAL, b"1"), "process 1 was lost"),
    (-6, UNHEALTHY % (FATAL, b"3, 12"), "processes 3, 12 were lost"),
    (-6, FATAL + b" Failed to send RPC to coordination service.", "process 0 was lost"),
    (-6, FATAL, "another process was lost"),
    (1, b"Traceback\n  Gloo AllReduce failed: Connection closed", "another process was lost"),
    (1, b"train: accuracy moved", ""),
    (2, UNHEALTHY % (FATAL, b"1"), ""),
    (-6, b"terminate called after throwing 'gloo::EnforceNotMet'", "another process was lost"),
    (1, b"Traceback\n  Gloo has no such device", ""),
    (-6, b"some other reason", ""),
    (-9, b"", ""),
    (0, b"", ""),
  ],
)
def test_what_jax_says_of_a_lost_process(status, said, lost):
  assert _lost(status, said) == lost


@pytest.mark.parametrize(
  "said, shown, held",
  [
    ([b"step 1\n", b"F1129 the end\n", b"of all\n"], b"step 1\n", b"F1129 the end\nof all\n"),
    ([b"step 1\nTraceback (most recent call", b" last)"], b"step 1\n", None),
    ([b"E1129 trouble\n", None, b"step 2\n"], b"E1129 trouble\nstep 2\n", b""),
    ([b"WE1129 no error\n"], b"WE1129 no error\n", b""),
  ],
)
def test_last_words_are_held_back_for_a_while(monkeypatch, said, shown, held):
  seen = []
  monkeypatch.setattr(supervision, "_show", seen.append)
  monkeypatch.setattr(supervision, "_HELD_SECONDS", 0.2)
  reading, writing = os.pipe()

  def speak():
    for words in said:
      if words is None:
        time.sleep(0.5)
      else:
        os.write(writing, words)
        time.sleep(0.02)
    os.close(writing)

  speaker = threading.Thread(target=speak)
  speaker.start()
  everything, left = supervision._copied(reading)
  speaker.join()
  os.close(reading)
  assert b"".join(seen) == shown
  assert held is None or left == held
  assert everything == b"".join(words for words in said if words)


def start(workdir, count, *more):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  return [
    subprocess.Popen(
      [sys.executable, ROOT / "train.py", DIGITS, f"--workdir={workdir}", *TINY, *more]
      + ["--multihost"],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      env={
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(i),
      },
    )
    for i in range(count)
  ]


def started(workdir, steps=100_000):
  """Two processes, once they have saved something."""
  processes = start(workdir, 2, f"--config.train.steps={steps}", "--config.log_every=1")
  deadline = time.monotonic() + 180
  while not list((workdir / "ann").glob("*.files.json")):
    assert time.monotonic() < deadline and processes[0].poll() is None
    time.sleep(0.1)
  return processes


@pytest.mark.parametrize(
  "lost, number",
  [
    pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
    pytest.param(1, signal.SIGKILL, marks=pytest.mark.full),
  ],
)
def test_the_last_line_says_which_process_was_lost(tmp_path, lost, number):
  processes = started(tmp_path / "run")
  processes[lost].send_signal(number)
  processes[lost].communicate(timeout=60)
  assert processes[lost].returncode == -number
  other = processes[1 - lost]
  _, err = other.communicate(timeout=30)
  assert other.returncode == 1
  # The transport may end it before the coordination has said which one.
  which, _, remedy = err.partition(" was lost: ")
  assert which in (f"train: process {lost}", "train: another process")
  assert remedy == (
    "start all processes of the job again, the same command goes on from what is saved\n"
  )


def child_of(process):
  """The process that does the work of a command; on Linux alone."""
  tasks = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
  return int(tasks.read_text().split()[0])


@pytest.mark.full
@pytest.mark.parametrize("hung", [0, 1])
def test_a_process_that_hangs_is_given_up_within_half_a_minute(tmp_path, hung):
  processes = started(tmp_path / "run")
  child = child_of(processes[hung])
  os.kill(child, signal.SIGSTOP)
  try:
    _, err = processes[1 - hung].communicate(timeout=30)
  finally:
    os.kill(child, signal.SIGKILL)
    processes[hung].communicate()
  assert processes[1 - hung].returncode == 1
  assert re.fullmatch(rf"train: (process {hung}|another process) was lost: .*\n", err)


@pytest.mark.full
@pytest.mark.parametrize("full", [0, 1])
def test_a_full_disk_on_one_host_ends_all(tmp_path, full):
  processes = started(tmp_path / "run")
  resource.prlimit(child_of(processes[full]), resource.RLIMIT_FSIZE, (1024, 1024))
  told = [process.communicate(timeout=30)[1] for process in processes]
  assert processes[full].returncode == 2 and processes[1 - full].returncode == 1, told
  assert re.fullmatch(r"train: .* cannot be written: File too large; .*\n", told[full])
  assert re.fullmatch(rf"train: (process {full}|another process) was lost: .*\n", told[1 - full])


@pytest.mark.parametrize(
  "asked, number, status",
  [
    pytest.param(1, signal.SIGTERM, 143, marks=pytest.mark.slow),
    pytest.param(0, signal.SIGINT, 130, marks=pytest.mark.full),
  ],
)
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, asked, number, status):
  run = tmp_path / "run"
  processes = started(run)
  processes[asked].send_signal(number)
  told = {process.communicate(timeout=20)[1] for process in processes}
  assert [process.returncode for process in processes] == [status, status], told
  step = max(int(f.name) for f in (run / "ann").iterdir() if f.is_dir())
  assert told == {
    f"train: ann: stopped after step {step} of 100000, which is saved; the same command goes on "
    "from there\n"
  }


@pytest.mark.full
def test_one_process_goes_on_where_two_have_stopped(tmp_path):
  """Each of the two with four of the eight devices."""
  together, alone = tmp_path / "together", tmp_path / "alone"
  processes = started(together, steps=60)
  processes[0].send_signal(signal.SIGTERM)
  told = [process.communicate(timeout=20)[1] for process in processes]
  assert [process.returncode for process in processes] == [143, 143], told
  losses = {}
  for run in (together, alone):
    assert run_train(run, "--config.train.steps=60", "--config.log_every=1") == 0
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses[run] = {(record["phase"], record["step"]): record["loss"] for record in records}
  assert losses[together].keys() == losses[alone].keys() and len(losses[alone]) == 66
  for step, loss in losses[alone].items():
    assert losses[together][step] == pytest.approx(loss, rel=1e-5), step


@pytest.mark.slow
def test_a_job_whose_variables_are_no_numbers(tmp_path):
  environment = {**os.environ, "JAX_NUM_PROCESSES": "two"}
  done = subprocess.run(
    [sys.executable, ROOT / "train.py", DIGITS, f"--workdir={tmp_path / 'run'}", "--multihost"],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (
    2,
    "train: JAX_NUM_PROCESSES=two must be a whole number\n",
  )

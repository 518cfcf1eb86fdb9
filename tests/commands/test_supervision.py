"""Processes of several hosts: the last line says which one was lost."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from running import DIGITS, ROOT, TINY

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
    (-6, b"some other reason", "this process was ended by SIGABRT"),
    (-9, b"", "this process was ended by SIGKILL"),
    (0, b"", ""),
  ],
)
def test_what_jax_says_of_a_lost_process(status, said, lost):
  assert _lost(status, said) == lost


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


@pytest.mark.parametrize(
  "number, status",
  [
    pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.full),
    pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full),
  ],
)
def test_the_last_line_says_which_process_was_lost(tmp_path, number, status):
  """The one that the others meet at is missed within a second; others within two minutes."""
  first, second = start(tmp_path / "run", 2, "--config.train.steps=100000")
  deadline = time.monotonic() + 180
  while not list((tmp_path / "run" / "ann").glob("*.files.json")):
    assert time.monotonic() < deadline and first.poll() is None
    time.sleep(0.1)
  first.send_signal(number)
  _, err = first.communicate(timeout=60)
  assert first.returncode == status
  if status > 0:
    assert err == "train: stopped; the same command goes on from what is saved\n"
  _, err = second.communicate(timeout=150)
  assert second.returncode == 1
  # The transport may end it before the coordination has said which one.
  which, _, remedy = err.splitlines()[-1].partition(" was lost: ")
  assert which in ("train: process 0", "train: another process")
  assert remedy == (
    "start all processes of the job again, the same command goes on from what is saved"
  )


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

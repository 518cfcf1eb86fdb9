"""Signals end a process at once, in one line; or after a step, where the process sees to it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from running import ROOT

from tcljax.runs import stopping
from tcljax.training.loop import Asked

WAIT = "print('ready', flush=True); time.sleep(60)"
AFTER_A_STEP = """
with stopping.after_a_step(60) as asked:
    print('ready', flush=True)
    for _ in range(600):
      time.sleep(0.1)
      if asked(): break
    print('saved', flush=True)
"""
STUBBORN = "with stopping.after_a_step(60): " + WAIT


def ended(body, *signals, before=""):
  """Exit status, output and error of a process that got these signals while in `body`."""
  code = (
    f"import signal, time\nfrom tcljax.runs import stopping\n{before}\n"
    f"with stopping.watching('train'):\n  {body.strip()}\n"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert process.stdout and process.stdout.readline() == "ready\n"
  for number in signals:
    process.send_signal(number)
    time.sleep(0.3)  # of two at once none is the first
  out, err = process.communicate(timeout=60)
  return process.returncode, out, err


LINE = "train: stopped; the same command goes on from what is saved\n"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_where_nothing_is_to_be_saved(number, status):
  assert ended(WAIT, number) == (status, "", LINE)


def test_the_first_signal_is_awaited_while_training():
  status, out, err = ended(AFTER_A_STEP, signal.SIGTERM)
  assert status == 1 and out == "saved\n"  # the command makes a line of the error
  assert err.splitlines()[-1].endswith("Stopped: stopped at the end of a phase, which is saved")


@pytest.mark.slow
def test_the_second_signal_ends_at_once():
  assert ended(STUBBORN, signal.SIGINT, signal.SIGTERM)[0::2] == (143, LINE)
  assert ended(STUBBORN, signal.SIGTERM, signal.SIGINT)[0::2] == (130, LINE)


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored():
  """As `nohup` and shells do for what runs in the background."""
  ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
  short = "print('ready', flush=True); time.sleep(2)"
  assert ended(short, signal.SIGINT, before=ignore) == (0, "", "")


@pytest.fixture
def clock(monkeypatch):
  """Seconds, which the test lets pass."""
  now = [100.0]
  monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
  return now


def test_it_is_time_to_save_whenever_so_many_seconds_have_passed(clock):
  found = []
  with stopping.after_a_step(120) as asked:
    for seconds in (60, 59, 1, 119, 300, 0, 120):
      clock[0] += seconds
      found.append(asked())
  nothing, save = Asked.NOTHING, Asked.SAVE
  assert found == [nothing, nothing, save, nothing, save, nothing, save]


@pytest.mark.parametrize("main", [True, False])
def test_the_processes_of_a_job_save_by_the_clock_of_the_first_one(monkeypatch, clock, main):
  """A step late, as the highest of all numbers is not known before."""
  sent, of_the_other = [], [0, 0, 1, 0, 0, 0, 0]

  class Highest:
    def __call__(self, number):
      sent.append(number)
      return max(number, 0 if main else of_the_other[len(sent) - 1])

  monkeypatch.setattr(stopping.jax, "process_count", lambda: 2)
  monkeypatch.setattr(stopping.parallel, "is_main_host", lambda: main)
  monkeypatch.setattr(stopping.parallel, "Highest", Highest)
  found = []
  with stopping.after_a_step(120) as asked:
    for seconds in (60, 59, 1, 1, 1, 1):
      clock[0] += seconds
      found.append(asked())
  assert sent == [0, 0, int(main), 0, 0, 0, 0]  # once more at the end
  assert found == [Asked.NOTHING] * 3 + [Asked.SAVE] + [Asked.NOTHING] * 2


def test_a_signal_comes_before_what_is_to_be_saved(monkeypatch, clock):
  with pytest.raises(stopping.Stopped), stopping.after_a_step(1) as asked:
    monkeypatch.setattr(stopping._State, "asked", signal.SIGINT)
    clock[0] += 10
    assert asked() == Asked.STOP

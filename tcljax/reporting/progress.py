"""Where the numbers of a run go: metrics.jsonl, TensorBoard and the terminal. Process 0 only."""

import contextlib
import json
import pathlib
import sys
import time

import tqdm
from tensorboardX import SummaryWriter

from tcljax.distributed import parallel
from tcljax.files import write_text


def say(text: str) -> None:
  """Prints for the user, once for the whole job."""
  if parallel.is_main_host():
    tqdm.tqdm.write(text)
    sys.stdout.flush()


class PhaseLog:
  """Metrics of one phase: `begin` it, call it with each step and its metrics, and `close` it.

  Args:
    workdir: of the run.
    phase: its name.
    steps: of the whole phase.
    every: steps between records.
  """

  def __init__(self, workdir: pathlib.Path, phase: str, steps: int, every: int) -> None:
    self.workdir, self.phase, self.steps, self.every = workdir, phase, steps, every
    self._open = contextlib.ExitStack()

  def begin(self, done: int) -> None:
    """Opens the files for the steps that are still to come.

    Args:
      done: steps that are done already; lines written after them by a run that was stopped are
        dropped, so that each step stands in the file once.
    """
    if done:
      say(f"{self.phase}: {done} of {self.steps} steps are done already")
    self._active = parallel.is_main_host() and done < self.steps
    if not self._active:
      return
    self._last = (done, time.perf_counter())
    path = self.workdir / "metrics.jsonl"
    if path.exists():
      write_text(path, "".join(_kept_lines(path.read_text(), self.phase, done)))
    self._file = self._open.enter_context(path.open("a"))
    board = SummaryWriter(str(self.workdir / "tensorboard" / self.phase), purge_step=done + 1)
    self._board = self._open.enter_context(contextlib.closing(board))
    # tqdm's `disable=None` shows the bar on a terminal only.
    bar = tqdm.tqdm(total=self.steps, initial=done, desc=self.phase, unit="step", disable=None)
    self._bar = self._open.enter_context(contextlib.closing(bar))

  def __call__(self, step: int, metrics: dict[str, float]) -> None:
    """Takes the metrics of a finished step."""
    if not self._active:
      return
    self._bar.update()
    if step % self.every and step != self.steps:
      return
    last_step, last_time = self._last
    self._last = (step, time.perf_counter())
    rate = (step - last_step) / (self._last[1] - last_time)
    record = {"phase": self.phase, "step": step, **metrics, "steps_per_second": rate}
    self._file.write(json.dumps(record) + "\n")
    self._file.flush()
    for name, value in (*metrics.items(), ("steps_per_second", rate)):
      self._board.add_scalar(name, value, step)
    if self._bar.disable:
      say(
        f"{self.phase} {step}/{self.steps}: loss {metrics['loss']:.4g}, "
        f"accuracy {metrics['accuracy']:.1f} %, {rate:.1f} steps/s"
      )
    else:
      self._bar.set_postfix(loss=f"{metrics['loss']:.4g}", accuracy=f"{metrics['accuracy']:.1f}")

  def close(self) -> None:
    """Closes the files and the progress bar."""
    self._open.close()


def _kept_lines(text: str, phase: str, start: int):
  for line in text.splitlines(keepends=True):
    try:
      record = json.loads(line)
    except ValueError:  # cut short when the run was stopped
      continue
    if record["phase"] != phase or record["step"] <= start:
      yield line

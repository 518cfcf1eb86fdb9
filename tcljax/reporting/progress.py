"""Where the numbers of a run go: metrics.jsonl, TensorBoard and the terminal. Process 0 only."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import tqdm
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from tcljax.distributed import parallel
from tcljax.files import FileError, read_text, write_text, writing

METRICS = "metrics.jsonl"
_FLUSHED_EVERY = 30  # seconds, for TensorBoard
_PROTOS: Any = event_pb2  # made when it is imported, so that nothing declares what is in it


def say(text: str) -> None:
  """Prints for the user, once for the whole job."""
  if parallel.is_main_host():
    tqdm.tqdm.write(text)
    sys.stdout.flush()


class PhaseLog:
  """Metrics of one phase: `begin` it, call it with each step as a hook, and `close` it.

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

    Raises:
      FileError: if they cannot be written, or the records so far are none.

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
    self._path = self.workdir / METRICS
    with contextlib.suppress(FileNotFoundError):
      write_text(self._path, "".join(_kept_lines(self._path, self.phase, done)))
    self._open.enter_context(writing(self._path))
    self._file = self._open.enter_context(self._path.open("a", encoding="utf-8"))
    self._board = _Board(self.workdir / "tensorboard" / self.phase, done + 1)
    self._open.enter_context(contextlib.closing(self._board))
    # tqdm's `disable=None` shows the bar on a terminal only.
    bar = tqdm.tqdm(total=self.steps, initial=done, desc=self.phase, unit="step", disable=None)
    self._bar = self._open.enter_context(contextlib.closing(bar))

  def __call__(self, step: int, metrics: dict[str, float], ended: float) -> None:
    """Takes the metrics of a finished step, and the moment when it ended; see `Hooks.on_metrics`.

    Raises:
      FileError: if they cannot be written.
    """
    if not self._active:
      return
    self._bar.update()
    if step % self.every and step != self.steps:
      return
    last_step, last_time = self._last
    self._last = (step, ended)
    rate = (step - last_step) / (self._last[1] - last_time)
    record = {"phase": self.phase, "step": step, **metrics, "steps_per_second": rate}
    with writing(self._path):
      self._file.write(json.dumps(record) + "\n")
      self._file.flush()
    self._board.add(step, {**metrics, "steps_per_second": rate})
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


class _Board:
  """Numbers for TensorBoard, written at once: what goes wrong in a thread nobody hears of."""

  def __init__(self, folder: pathlib.Path, purge_step: int) -> None:
    self._folder = folder
    with writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._writer = event_file_writer.EventsWriter(str(folder / "events"))
      # What an earlier run has left of these steps is not to be shown.
      begin = _PROTOS.SessionLog(status=_PROTOS.SessionLog.START)
      self._write(step=purge_step, file_version="brain.Event:2")
      self._write(step=purge_step, session_log=begin)
    self._flushed = time.time()

  def add(self, step: int, values: dict[str, float]) -> None:
    with writing(self._folder):
      for name, value in values.items():
        self._write(step=step, summary=summary.scalar(name, value))
      if time.time() - self._flushed > _FLUSHED_EVERY:
        self._writer.flush()
        self._flushed = time.time()

  def _write(self, **fields: Any) -> None:
    self._writer.write_event(_PROTOS.Event(wall_time=time.time(), **fields))

  def close(self) -> None:
    with writing(self._folder):
      self._writer.close()


def read_records(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The records of a run's steps, to look at; lines that are none are left out."""
  try:
    lines = read_text(workdir / METRICS).splitlines()
  except (FileNotFoundError, FileError):
    return []
  found = []
  for line in lines:
    with contextlib.suppress(KeyError, RecursionError, TypeError, ValueError):
      record = json.loads(line)
      record |= {"phase": str(record["phase"]), "step": int(record["step"])}
      found.append({**record, "loss": float(record["loss"])})
  return found


def _kept_lines(path: pathlib.Path, phase: str, start: int) -> Iterator[str]:
  lines = read_text(path).splitlines(keepends=True)
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      keep = record["phase"] != phase or int(record["step"]) <= start
    except (KeyError, RecursionError, TypeError, ValueError):
      if not line.endswith("\n"):  # cut short when the run was stopped
        return
      raise FileError(
        f"{path} cannot be read: line {number} is no record of a step; remove the line or the file"
      ) from None
    if keep:
      yield line if line.endswith("\n") else f"{line}\n"

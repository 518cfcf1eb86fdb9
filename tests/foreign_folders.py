"""Loads folders and archives of a spiking network that were changed, and says what came of it.

    python tests/foreign_folders.py

There are some 650 ways. Each is loaded in a process of its own kind, which is ended if it hangs.
A folder may be refused by one ValueError of one line, within 2 s and 200 MiB, or load and give the
same answers to the bit; or, where its checksums were computed again, be another network
that runs and gives finite answers. Nothing is written. Ends with status 1 if one did anything else.
"""

import argparse
import collections
import json
import os
import pathlib
import selectors
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

_HERE = pathlib.Path(__file__).absolute()
SECONDS, MEBIBYTES = 2.0, 200.0
_PATIENCE = 30.0  # seconds for a load, after which it hangs; the machine may be busy
_PATIENCE_FOR_A_CALL = 120.0
_RIGHT = {"refused", "the same answers"}
_ANOTHER = "another network, finite answers"


def main(argv=None):
  """Runs the trial; returns the exit status."""
  flags = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  flags.add_argument("--cases", type=int, help="so many of them; more than once, if asked for more")
  flags.add_argument("--seed", type=int, default=0)
  flags.add_argument("--only", help="one mutation")
  flags.add_argument("--all", type=pathlib.Path, help="a file for what came of each case")
  flags.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
  args = flags.parse_args(argv)
  if args.worker:
    return work(args.worker)
  found = trial(args.cases, args.seed, args.only)
  print(table(found))
  if args.all:
    args.all.write_text("".join(json.dumps(case) + "\n" for case in found))
  wrong = [case for case in found if not is_right(case)]
  for case in wrong:
    print(json.dumps(case))
  return 1 if wrong else 0


def trial(cases=None, seed=0, only=None):
  """What became of each case: `mutation`, `choice`, `signed`, `outcome`, `seconds`, `mebibytes`."""
  from mutations import LAID, PACKED, SAID, pack, write, write_packed
  from networks import few

  import tcljax

  every = {name: choices for of in (SAID, LAID, PACKED) for name, (_, choices) in of.items()}
  # Each choice of each mutation in turn; as often as it takes.
  plan = [
    (name, number) for name in ([only] if only else every) for number in range(len(every[name]))
  ]
  rng = np.random.default_rng(seed)
  cases = cases or len(plan)
  rounds = -(-cases // len(plan))
  plan = [(*plan[i], turn) for turn in range(rounds) for i in rng.permutation(len(plan))][:cases]
  found = []
  with tempfile.TemporaryDirectory() as place:
    place = pathlib.Path(place)
    network, images = few(time_steps=6)
    tcljax.save(network, place / "base")
    np.save(place / "images.npy", images)
    worker = Worker(place)
    for case, (name, number, turn) in enumerate(plan):
      signed, where = bool((case + turn) % 2), place / str(case)
      if name in PACKED:
        signed, where = False, where.with_suffix(".zip")
        choice = write_packed(place / "base", where, name, number, rng)
      else:
        choice = write(place / "base", where, name, number, signed, rng)
        if case % 3 == 0:
          where = pack(where, where.with_suffix(".zip"))
      about = {"mutation": name, "choice": repr(choice)[:60], "signed": signed}
      before = everything_in(place)
      found.append(about | worker.ask(where))
      if everything_in(place) != before:
        found[-1]["outcome"] = "it wrote something"
      shutil.rmtree(where, ignore_errors=True)
    worker.end()
  return found


def everything_in(place):
  """The paths of all that there is, and their sizes."""
  return {path: path.lstat().st_size for path in place.rglob("*")}


def is_right(case):
  """Whether a case is refused, or harmless, as it must be."""
  allowed = _RIGHT | ({_ANOTHER} if case["signed"] else set())
  within = case["seconds"] <= SECONDS and case["mebibytes"] <= MEBIBYTES
  return case["outcome"] in allowed and within


def table(found):
  """The outcomes, counted."""
  lines = []
  for signed in (False, True):
    of = [case for case in found if case["signed"] is signed]
    lines.append(f"{len(of)} cases, checksums {'computed again' if signed else 'of before'}:")
    for outcome, count in collections.Counter(case["outcome"] for case in of).most_common():
      lines.append(f"  {count:4d}  {outcome}")
  refused = [case for case in found if case["outcome"] == "refused"]
  for name, cases in (("refused", refused), ("all", found)):
    lines.append(
      f"{name}: at most {max(c['seconds'] for c in cases):.2f} s of the processor, "
      f"{max(c['wall'] for c in cases):.2f} s, {max(c['mebibytes'] for c in cases):.0f} MiB"
    )
  return "\n".join(lines)


class Worker:
  """A process that loads folders one after another; a new one where it was lost."""

  def __init__(self, place):
    self.place, self.process = place, None

  def ask(self, folder):
    """What became of this folder."""
    if self.process is None:
      command = [sys.executable, str(_HERE), f"--worker={self.place}"]
      # Most of its time would go into optimising code that runs once.
      flags = ("backend_optimization_level=0", "cpu_use_fusion_emitters=false")
      quick = {"XLA_FLAGS": " ".join(f"--xla_{flag}" for flag in flags)}
      self.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=self.place,
        env={**os.environ, **quick},
      )
      self.lines = selectors.DefaultSelector()
      self.lines.register(self.process.stdout, selectors.EVENT_READ)
      assert self._answer(300.0) == {"ready": True}
    self.process.stdin.write(f"{folder}\n".encode())
    answer = {"seconds": 0.0, "wall": 0.0, "mebibytes": 0.0}
    for patience, what in ((_PATIENCE, "load"), (_PATIENCE_FOR_A_CALL, "call")):
      told = self._answer(patience)
      if isinstance(told, str):
        self.end()
        return answer | {"outcome": f"{told} in a {what}"}
      answer |= told
      if "outcome" in told:
        return answer

  def _answer(self, patience):
    if not self.lines.select(patience):
      return "it hung"
    line = self.process.stdout.readline()
    return json.loads(line) if line else "the process was lost"

  def end(self):
    if self.process is not None:
      self.process.kill()
      self.process.communicate()
      self.process = None


def work(place):
  """Loads and calls each folder that is named on standard input."""
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print is no answer
  tell = lambda **answer: print(json.dumps(answer), file=out, flush=True)
  import tcljax

  images = np.load(place / "images.npy")
  base = tcljax.load(place / "base")
  expected = np.asarray(base(images))
  tell(ready=True)
  for line in sys.stdin:
    network, start = None, (time.process_time(), time.perf_counter())
    before = memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
      network, error = tcljax.load(line.strip()), None
    except BaseException as raised:
      error = raised
    costs = {
      "seconds": time.process_time() - start[0],
      "wall": time.perf_counter() - start[1],
      "mebibytes": max(0.0, memory("VmHWM") - before),
    }
    if network is None:
      tell(outcome=outcome_of(error), told=str(error)[:200], **costs)
      continue
    tell(**costs)
    try:
      tell(outcome=answer_of(network, base, images, expected))
    except Exception as raised:
      tell(outcome=f"{type(raised).__name__} when called", told=str(raised)[:200])
  return 0


def outcome_of(error):
  if type(error) is ValueError:
    return "refused" if "\n" not in str(error) else "a ValueError of several lines"
  return f"{type(error).__name__} when loaded"


def answer_of(network, base, images, expected):
  """What a network that was loaded answers; only that of before is compiled, which takes time."""
  import jax

  from tcljax.maths.trees import is_shape

  batch, spiking = 2, network.spiking
  same = (network.graph, spiking) == (base.graph, base.spiking)
  period = spiking.neuron.phase  # whose multiple T is
  few = -(-(spiking.delay + 2) // period) * period
  time_steps = spiking.time_steps if same else min(spiking.time_steps, few)
  if network.input_shape == images.shape[1:]:
    batch = len(images)
  else:
    ones = lambda shape: np.ones((batch, *shape), np.float32)
    images = jax.tree.map(ones, network.input_shape, is_leaf=is_shape)
  keys = None
  if network.spiking.encoding == "poisson":
    keys = jax.random.split(jax.random.key(0), batch)
  if network.spiking.encoding == "frames":
    images = jax.tree.map(lambda one: np.stack([one] * time_steps), images)
  with jax.disable_jit(not same and keys is None):
    found = list(map(np.asarray, jax.tree.leaves(network(images, time_steps, keys))))
  if found[0].shape == expected.shape and (found[0] == expected).all() and len(found) == 1:
    return "the same answers"
  finite = all(np.isfinite(output).all() for output in found)
  return _ANOTHER if finite else "another network, answers not finite"


def memory(field):
  """A line of /proc/self/status, in MiB."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(status.split(f"{field}:")[1].split()[0]) / 1024


if __name__ == "__main__":
  sys.exit(main())

"""How a command ends on what it cannot mend: errors of other threads, and of packages."""

import subprocess
import sys

from running import complaint

from tcljax.commands.arguments import Command

_FAILING_BEYOND_REACH = """
import threading
from tcljax.commands.arguments import Command

class Failing:
  def __del__(self):
    raise RuntimeError(threading.current_thread().name)

def let_go():
  Failing()

def work():
  thread = threading.Thread(target=let_go, name="of TensorStore")
  thread.start()
  thread.join()
  let_go()
  raise ValueError("the one line") from OSError()

raise SystemExit(Command("train", None, None).run(lambda: work))
"""


def test_what_other_threads_cannot_raise_is_not_told():
  """TensorStore's threads find no event loop any more after a failed write."""
  done = subprocess.run(
    [sys.executable, "-c", _FAILING_BEYOND_REACH], capture_output=True, text=True, check=False
  )
  assert done.returncode == 2 and done.stderr.endswith("train: the one line\n"), done.stderr
  assert "RuntimeError: MainThread" in done.stderr and "TensorStore" not in done.stderr


_FAILING_BESIDE_A_THREAD = """
import threading, time
from tcljax.commands.arguments import Command

def work():
  threading.Thread(target=time.sleep, args=(600,)).start()
  raise RuntimeError("a fault of the program")

raise SystemExit(Command("train", None, None).run(lambda: work))
"""


def test_a_fault_of_the_program_ends_it_at_once_with_its_traceback():
  """As other processes of a job would be waited for."""
  done = subprocess.run(
    [sys.executable, "-c", _FAILING_BESIDE_A_THREAD],
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )
  assert done.returncode == 1, done.stderr
  assert done.stderr.startswith("Traceback") and "a fault of the program" in done.stderr


def test_a_package_that_is_not_whole_is_named(tmp_path, capsys, monkeypatch):
  (tmp_path / "halved.py").write_text("raise OSError('libhalved.so: cannot open it')\n")
  monkeypatch.syspath_prepend(tmp_path)

  def prepare():
    import halved  # pyright: ignore

    return halved

  assert Command("train", None, ["train.py"]).run(prepare) == 2
  assert complaint(capsys) == (
    "train: the installed package halved cannot be imported: libhalved.so: cannot open it; install "
    "it again, or remove it\n"
  )

"""Bad input is told in one line, with status 2, before anything runs, and harms nothing."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from running import DIGITS, ROOT, complaint, run_train

from tcljax.commands import convert, train


@pytest.mark.parametrize(
  "override, message",
  [
    ("--config.data.name=digit", "data set 'digit' is unknown; the nearest is 'digits'"),
    ("--config.data.name=mnist", "not prepared in .*; run: pip install .* tfds build mnist"),
    ("--config.data.workers=-2", "data.workers=-2 must be a number of processes"),
    ("--config.data.stream=True", "data.stream=True: digits are not stored on disk"),
    ("--config.snn.time_steps=0", "snn.time_steps=0: a simulation takes at least 1 step"),
    ("--config.snn.chunk=3", "snn.chunk=3 does not divide time_steps=4"),
    ("--config.eval.time_steps=0", "eval.time_steps=0 must be at least 1"),
    ("--config.snn.delay=4", "snn.delay=4 must be at least 0 and below time_steps=4"),
    ("--config.snn.reset=slow", "snn.reset='slow' is unknown: choose one of soft, hard"),
    ("--config.snn.surrogate=step", "snn.surrogate='step' is unknown: choose one of triangle"),
    ("--config.snn.width=0.0", "snn.width=0.0 must be positive"),
    ("--config.tune.at=(2,5)", r"tune.at=\(2, 5\): 5 is no number of steps from 1 to time_steps=4"),
    ("--config.tune.minutes=-1.0", "tune.minutes=-1.0 must be finite and not negative"),
    ("--config.snn.readout=mean", "snn.readout='mean' is unknown: choose one of membrane, rate"),
    ("--config.snn.rest=soft", "--config has no field 'rest'; did you mean 'reset'"),
    ("--config.snn.rest.deep=1", "--config has no field 'rest'"),
    ("--config.seed=-1", "seed=-1 must be at least 0"),
    ("--config.tune.instalments=0", "tune.instalments=0 must be at least 1"),
    ("--config.tune.v_init=nan", "tune.v_init=nan must be finite"),
    ("--config.tune.steps=0", "tune.steps=0 must be at least 1"),
    ("--config.model.stages=32", r"model.stages=.*32.* must be stages of widths, such as \(\(32,"),
    ("--config.model.stages=(8,)", "model.stages=.*8.* must be stages of widths"),
    ("--config.model.stages=((8,0),)", "model.stages=.* must be stages of widths"),
    ("--config.model.dense=(-1,)", r"model.dense=.*-1.* must be widths, such as \(512, 512\)"),
    ("--config.model.dense=wide", r"model.dense=.*'wide'.* must be widths"),
    ("--config.model.pooling=max", "pooling='max' is unknown: choose one of average, before, gate"),
    ("--config.model.dtype=half", "dtype='half' is unknown: choose one of float32, bfloat16"),
    ("--config.qwerty=1", "--config has no field 'qwerty'; docs/commands.md lists all fields"),
    ("--config.snn.time_steps=many", "--config.snn.time_steps=many must be a whole number$"),
    ("--config.tune.steps=abc", "--config.tune.steps=abc must be a whole number$"),
    ("--config.tune.minutes=1h", "--config.tune.minutes=1h must be a number$"),
    ("--config.data.stream=maybe", "--config.data.stream=maybe must be true or false$"),
    ("--config.train.optimizer=adamw", "--config.train.optimizer=adamw must be set by its fields"),
    ("--config.train.batch_size=1440", "train.batch_size=1440 is more than the 1437 training im"),
    ("--config.tune.batch_size=2048", "tune.batch_size=2048 is more than the 1437 training images"),
    ("--confg.snn.time_steps=4", "Unknown command line flag 'confg.snn.time_steps'"),
    ("steps=4", "'steps=4' is not a flag"),
    ("--config.tune.percentile=100.0", "tune.percentile=100.0 must lie strictly between 0 and 100"),
    ("--config.tune.percentile=0.0", "tune.percentile=0.0 must lie strictly between 0 and 100"),
    ("--config.tune.calibration=median", "tune.calibration='median' is unknown"),
    ("--config.tune.objective=mse", "tune.objective='mse' is unknown"),
    ("--config.tune.optimizer.name=lamb", "tune.optimizer.name='lamb' is for trained weights"),
    ("--config.train.optimizer.name=lamb", "train.optimizer.name='lamb' is for trained weights"),
    ("--config.tune.batch_size=12", "tune.batch_size=12 cannot be split over 8 devices"),
    (
      "--config.train.accumulate=3",
      "train.batch_size=64 cannot be split in 3 parts over 8 devices: choose a multiple of 24",
    ),
    ("--config.tune.accumulate=0", "tune.accumulate=0 must be at least 1"),
    ("--config.train.fsdp=3", "train.fsdp=3 does not divide the 8 devices: choose a divisor of 8"),
    (
      "--config.train.best=True",
      "train.best=True chooses by images set aside: set data.validation",
    ),
    ("--config.train.batch_size=0", "train.batch_size=0 must be at least 1"),
    ("--config.train.label_smoothing=1.0", "train.label_smoothing=1.0 must be in"),
    ("--config.train.optimizer.name=lion", "train.optimizer.name='lion' is unknown"),
    ("--config.model.name=alexnet", "model.name='alexnet' is unknown: choose one of cnn, vgg11"),
    (
      "--config.model.stages=((4,),(4,))",  # joins the two stages of TINY
      "image size 8x8 is too small for the model's 4 halvings: it takes at least 16x16",
    ),
    ("--config.preprocessing.mean=(0.1,0.2)", "preprocessing.mean=.* has 2 values for 1 channels"),
    (
      "--config.preprocessing.mean=('a',)",
      r"preprocessing.mean=.*'a'.* must be finite",
    ),
    ("--config.preprocessing.std=nan", r"preprocessing.std=\(.*\) must be finite numbers"),
    ("--config.preprocessing.shift=-1", "preprocessing.shift=-1"),
    ("--config.model.stem=cifar", "model.stem='cifar' is no field of cnn: leave it out"),
    ("--config.tune.minutes=inf", "tune.minutes=inf must be finite and not negative"),
    ("--config.seed=4294967296", "seed=4294967296 must be below 4294967296"),
  ],
)
def test_bad_overrides_are_told_in_one_line(tmp_path, capsys, monkeypatch, override, message):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
  assert run_train(tmp_path / "run", override) == 2
  assert re.search(message, complaint(capsys))
  assert not (tmp_path / "run").exists()


def test_bad_command_lines(tmp_path, capsys):
  assert train.main(["train.py"]) == 2
  assert "--config is required" in complaint(capsys)
  assert train.main(["train.py", "--config=configs/nothing.py"]) == 2
  assert complaint(capsys).startswith("train: --config=configs/nothing.py is no file; ")
  assert train.main(["train.py", "--config", "configs/nothing.py:joint", "--workdir=x"]) == 2
  assert complaint(capsys).startswith("train: --config=configs/nothing.py is no file; ")
  assert convert.main(["convert.py", f"--workdir={tmp_path}"]) == 2
  assert "--output is required" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={tmp_path}", f"--output={tmp_path / 's'}"]) == 2
  assert "config.json does not exist" in complaint(capsys)
  broken = tmp_path / "broken.py"
  broken.write_text("def get_config(:\n")
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert complaint(capsys) == f"train: {broken}, line 1: SyntaxError: invalid syntax\n"
  broken.write_text(
    "from tcljax.runs.config_forms import base_config\n\n\ndef get_config():\n"
    "  config = base_config()\n  config.eval.batchsize = 3\n  return config\n"
  )
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert complaint(capsys) == (
    f"train: {broken}, line 6: --config has no field 'batchsize'; did you mean 'batch_size'?\n"
  )
  broken.write_text(
    "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
    "  return ConfigDict({'snn': {'steps': 4}})\n"
  )
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert "--config.snn.steps=4 is no field of a config" in complaint(capsys)
  for body, message in (
    ("return {}['seed']", f"train: {broken}, line 2: KeyError: 'seed'\n"),
    ("return None.seed", f"train: {broken}, line 2: AttributeError: 'NoneType'"),
    ("raise SystemExit(3)", f"train: {broken}, line 2: SystemExit: 3\n"),
    ("return int('x')", f"train: {broken}, line 2: ValueError: invalid literal for int()"),
    ("return open('/none')", f"train: {broken}, line 2: FileNotFoundError: [Errno 2]"),
    ("import nothing_such", f"train: {broken}, line 2: ModuleNotFoundError: No module named"),
    ("return 4", "get_config of the config file gives 4: let it change and return base_config()"),
  ):
    broken.write_text(f"def get_config():\n  {body}\n")
    assert train.main(["train.py", f"--config={broken}"]) == 2
    assert message in complaint(capsys)
  assert train.main(["train.py", DIGITS, "--workdir="]) == 2
  assert "--workdir= is empty: give a path, or leave the flag out" in complaint(capsys)
  assert train.main(["train.py", f"--config={broken}:joint"]) == 2
  assert complaint(capsys) == (
    f"train: --config={broken}:joint: {broken} has no variants: leave out ':joint'\n"
  )
  broken.write_text("seed = 1\n")
  del sys.modules["config_config"]  # where the functions of the files before it still are
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert f"train: {broken} has no function get_config: it makes" in complaint(capsys)
  assert train.main(["train.py", f"{DIGITS}:joynt"]) == 2
  assert complaint(capsys).startswith(
    f"train: {DIGITS}:joynt: variant of the config='joynt' is unknown: choose one of cifar100, jo"
  )
  for command in (train, convert):
    assert command.main(["x", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--workdir" in out and "--multihost" in out


def test_workdir_of_another_config(workdir, capsys):
  before = {f: f.read_bytes() for f in workdir.rglob("*") if f.is_file()}
  assert (
    run_train(workdir, "--config.snn.time_steps=2", "--config.train.optimizer.momentum=0.5") == 2
  )
  line = complaint(capsys)
  assert "snn.time_steps: 4 -> 2; train.optimizer.momentum: 0.9 -> 0.5" in line
  assert before == {f: f.read_bytes() for f in workdir.rglob("*") if f.is_file()}


def test_workdir_of_something_else_or_unwritable(tmp_path, capsys, monkeypatch):
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "cat.jpg").write_text("precious")
  assert run_train(tmp_path / "photos") == 2
  assert "is not empty and holds no config.json" in complaint(capsys)
  assert run_train(tmp_path / "photos" / "cat.jpg" / "run") == 2
  assert "cat.jpg/run cannot be written: " in complaint(capsys)
  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, "iterdir", lambda path: os.listdir("/nothing"))
    assert run_train(tmp_path / "photos") == 2
  assert "photos cannot be read: No such file or directory" in complaint(capsys)
  (tmp_path / "old").mkdir()
  (tmp_path / "old" / "config.json").write_text('{"name": "x", "gone": 1}')
  assert run_train(tmp_path / "old") == 2
  assert "does not hold the fields of this version" in complaint(capsys)
  for text, message in (
    ('{"snn": {"steps": 4}}', "snn.steps=4 is no field of a config"),
    ('{"snn": 4}', "snn=4 must be a section of fields"),
    ("[]", r"config=\(\) must be a section"),
    ('{"seed": "x"}', "seed='x' must be of type int"),
    ('{"tune": {"v_init": 1, "at": [4, "x"]}}', "tune.at=.*'x' is no number of steps"),
    ('{"preprocessing": {"mean": 0.5}}', "preprocessing.mean=0.5 must be of type tuple"),
  ):
    (tmp_path / "old" / "config.json").write_text(text)
    assert run_train(tmp_path / "old") == 2
    assert re.search(f"{message}.*; choose another workdir", complaint(capsys))
  (tmp_path / "old" / "config.json").write_text('{"name": ')
  assert run_train(tmp_path / "old") == 2
  assert "config.json cannot be read" in complaint(capsys)


def test_convert_of_an_unfinished_run_and_into_a_foreign_directory(workdir, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / "tuned" / "6")
  assert convert.main(["convert.py", f"--workdir={copy}", f"--output={tmp_path / 's'}"]) == 2
  assert "is not finished, 5 of 6 steps of phase 'tuned' are done" in complaint(capsys)
  shutil.rmtree(copy / "tuned")
  assert convert.main(["convert.py", f"--workdir={copy}", f"--output={tmp_path / 's'}"]) == 2
  assert "is not finished, its phase 'tuned' has not begun" in complaint(capsys)
  assert not (copy / "tuned").exists()
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={copy}"]) == 2
  assert "is not (only) a spiking network" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={workdir}", "--output=/dev/null/x"]) == 2
  assert "output /dev/null/x cannot be written" in complaint(capsys)


def test_links_that_lead_back_are_told(workdir, tmp_path, capsys):
  loop = tmp_path / "loop"
  loop.symlink_to("loop")
  assert run_train(loop) == 2
  assert re.search(
    "--workdir='.*loop' is or goes through a link that leads back", complaint(capsys)
  )
  assert run_train(tmp_path / "run", f"--config.pretrained={loop / 'w.npz'}") == 2
  assert re.search("pretrained: path='.*w.npz' is or goes through a link", complaint(capsys))
  for flags, message in (
    ((f"--workdir={loop}", f"--output={tmp_path / 's'}"), "--workdir='.*' is or goes through a li"),
    ((f"--workdir={workdir}", f"--output={loop}"), "--output='.*loop' is or goes through a link"),
    ((f"--workdir={workdir}", "--output=/"), "--output='/' is the root of all files"),
  ):
    assert convert.main(["convert.py", *flags]) == 2
    assert re.search(message, complaint(capsys))


def test_divergence_stops_the_run(tmp_path, capsys):
  assert (
    run_train(
      tmp_path / "run",
      "--config.train.optimizer.learning_rate=1e30",
      "--config.train.optimizer.warmup_steps=0",
    )
    == 1
  )
  assert "at step" in complaint(capsys)


def test_the_files_at_the_top_run_the_commands(tmp_path):
  for name in ("train.py", "convert.py"):
    done = subprocess.run(
      [sys.executable, ROOT / name, "--nonsense"],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "Unknown command line flag 'nonsense'" in done.stderr

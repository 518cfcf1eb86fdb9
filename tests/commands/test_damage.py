"""Files of a workdir that are damaged, or are something else: named in one line, or passed over."""

import os
import re
import shutil

import pytest
from running import complaint, run_train
from states import bits, ended_with

from tcljax.commands import convert


def test_a_damaged_checkpoint_is_named_and_an_earlier_one_goes_on(workdir, tmp_path, capsys):
  """Converting needs the last one, and says so; training goes on to the same bits."""
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  largest = max((copy / "tuned" / "6").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
  contents = bytearray(largest.read_bytes())
  contents[len(contents) // 2] ^= 4
  largest.write_bytes(contents)
  output = tmp_path / "s"
  assert convert.main(["convert.py", f"--workdir={copy}", f"--output={output}"]) == 2
  assert re.search(
    r"tuned/6 is damaged: .* has changed since it was written, 5 of 6 steps of phase 'tuned' are "
    "done: run train.py with it again$",
    complaint(capsys),
  )
  assert run_train(tmp_path / "other", f"--config.pretrained={copy}") == 2
  assert "--config.pretrained: workdir" in (line := complaint(capsys)) and "tuned/6 is dam" in line
  assert not output.exists() and not (tmp_path / "other").exists()
  assert run_train(copy) == 0
  assert re.search("tuned/6 is damaged: .*; step 5 is used instead\n", capsys.readouterr().out)
  assert (copy / "results.json").read_text() == (workdir / "results.json").read_text()
  assert bits(ended_with(copy)) == bits(ended_with(workdir))


@pytest.mark.parametrize(
  "name, contents, message",
  [
    ("metrics.jsonl", "[1,2]\n", "metrics.jsonl cannot be read: line 1 is no record of a step"),
    (
      "metrics.jsonl",
      '{"phase": "ann", "step": 1}\n{"phase": "tuned"}\n',
      "line 2 is no record of a step",
    ),
    ("metrics.jsonl", b"\xff\n", "metrics.jsonl cannot be read: it is no text in UTF-8"),
    ("metrics.jsonl", os.mkfifo, "metrics.jsonl cannot be read: it is no file"),
    ("config.json", os.mkfifo, "config.json cannot be read: it is no file"),
    ("config.json", b"\xff", "config.json cannot be read: it is no text in UTF-8"),
    ("config.json", '{"a":' * 9999, "config.json cannot be read: it is nested too deeply"),
    ("config.json", '{"name": ' + "[" * 400 + "]" * 400 + "}", "config.json does not hold the"),
    ("tuned", "a file", "tuned cannot hold checkpoints: it is no directory"),
    ("tensorboard", "a file", "tensorboard/tuned cannot be written: "),
    ("results.json", os.mkdir, "results.json cannot be written: Is a directory"),
  ],
)
def test_what_is_read_back_may_be_anything(workdir, tmp_path, capsys, name, contents, message):
  """One line that names the file, status 2, and nothing is lost."""
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / "tuned" / "6")
  place = copy / name
  shutil.rmtree(place) if place.is_dir() else place.unlink()
  if callable(contents):
    contents(place)
  else:
    place.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
  assert run_train(copy) == 2
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1 and message in captured.err
  assert list((copy / "ann").iterdir()) and place.exists()

"""Folders and archives of a spiking network, each with one fault or one foreign thing in it.

A mutation changes either what the two files of a network say (`said`), or the files as they lie on
the disk (`laid`), or an archive of them (`packed`). Those of folders are written as a careless hand
would, whose checksums are those of before, and as one who computes them again.
"""

import hashlib
import io
import json
import shutil
import warnings
import zipfile

import numpy as np

from tcljax.conversion.description import WEIGHTS, digest

DESCRIPTION = "network.json"
_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int8": "I8"}
ODD = (0, -1, 2, 7, 2**31, 10**30, 1.5, "a", None, True, [], [1], {}, [[1, 2], [3, 4]])
SAID, LAID, PACKED = {}, {}, {}


def said(*choices):
  """Registers `mutate(tree, arrays, rng, choice)` for each choice."""

  def add(mutate):
    SAID[mutate.__name__] = mutate, choices or (None,)
    return mutate

  return add


def laid(*choices):
  """Registers `mutate(folder, rng, choice)` for each choice."""

  def add(mutate):
    LAID[mutate.__name__] = mutate, choices or (None,)
    return mutate

  return add


def packed(*choices):
  """Registers `mutate(entries, rng, choice)`, which gives bytes or writes, for each choice.

  It is given the names and contents of the folder's files, and gives those of an archive, or its
  bytes.
  """

  def add(mutate):
    PACKED[mutate.__name__] = mutate, choices or (None,)
    return mutate

  return add


def write_packed(base, path, mutation, number, rng):
  """Writes case `number` of a mutation of an archive of the folder `base`; returns the choice."""
  mutate, choices = PACKED[mutation]
  choice = choices[number % len(choices)]
  made = mutate([(file.name, file.read_bytes()) for file in sorted(base.iterdir())], rng, choice)
  path.write_bytes(made if isinstance(made, bytes) else archive(made))
  return choice


def archive(entries, method=zipfile.ZIP_STORED):
  """The bytes of an archive of entries: names, or what zipfile knows of one, and contents."""
  made = io.BytesIO()
  with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as opened:
    warnings.simplefilter("ignore")  # of names that are there twice
    for name, content in entries:
      opened.writestr(name, content)
  return made.getvalue()


def pack(folder, path):
  """The same folder as an archive, if it holds files alone, and no large ones."""
  files = sorted(folder.iterdir())
  if all(file.is_file() and not file.is_symlink() for file in files):
    if sum(file.stat().st_size for file in files) < 2**25:
      path.write_bytes(archive([(file.name, file.read_bytes()) for file in files]))
      shutil.rmtree(folder)
      return path
  return folder


def write(base, folder, mutation, number, signed, rng):
  """Writes case `number` of a mutation of the folder `base`; returns what was chosen."""
  shutil.copytree(base, folder)
  mutate, choices = (SAID | LAID)[mutation]
  choice = choices[number % len(choices)]
  if mutation in SAID:
    tree, arrays = read(base)
    header = mutate(tree, arrays, rng, choice)
    raw = safetensors(arrays) if header is None else header
    if signed:
      sign(tree, raw)
    (folder / DESCRIPTION).write_text(json.dumps(tree))
    (folder / WEIGHTS).write_bytes(raw)
  else:
    mutate(folder, rng, choice)
    if signed:
      sign_folder(folder)
  return choice


def read(folder):
  """The description, and the arrays by name."""
  raw = (folder / WEIGHTS).read_bytes()
  start = 8 + int.from_bytes(raw[:8], "little")
  arrays = {
    name: np.frombuffer(raw[start:][slice(*at["data_offsets"])], "<f4").reshape(at["shape"]).copy()
    for name, at in json.loads(raw[8:start]).items()
  }
  return json.loads((folder / DESCRIPTION).read_text()), arrays


def safetensors(arrays, change=lambda header: header):
  """The bytes of a file of these arrays, of whatever type, its header changed."""
  header, start = {}, 0
  for name, array in arrays.items():
    end = start + array.nbytes
    dtype = _DTYPES.get(str(array.dtype), str(array.dtype))
    header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
    start = end
  text = change(header)
  text = text if isinstance(text, bytes) else json.dumps(text).encode()
  data = b"".join(array.tobytes() for array in arrays.values())
  return len(text).to_bytes(8, "little") + text + data


def sign(tree, raw):
  """Computes the checksums again, where the description still has a place for them."""
  try:
    entry = tree["files"][WEIGHTS]
    entry["sha256"] = hashlib.sha256(raw).hexdigest()
    entry["bytes"] = len(raw)
  except (KeyError, TypeError):
    pass
  try:
    tree["sha256"] = digest(tree)
  except ValueError:
    pass


def sign_folder(folder):
  """The same of files, where they are such."""
  weights, description = folder / WEIGHTS, folder / DESCRIPTION
  try:
    if description.is_file() and weights.is_file() and 0 < description.stat().st_size < 10**6:
      text = description.read_text()
      before, tree = json.loads(text), json.loads(text)
      if weights.stat().st_size < 10**8:
        sign(tree, weights.read_bytes())
      else:  # the checksum of so large a file would take longer than the trial
        tree["files"][WEIGHTS]["bytes"] = weights.stat().st_size
        tree["sha256"] = digest(tree)
      # In the text, which may hold what another writer would not write.
      for of in (lambda tree: tree, lambda tree: tree["files"][WEIGHTS]):
        text = text.replace(of(before)["sha256"], of(tree)["sha256"])
      size = [f'"bytes": {of["files"][WEIGHTS]["bytes"]}' for of in (before, tree)]
      description.write_text(text.replace(*size))
  except (ValueError, KeyError, TypeError, OSError, RecursionError, AttributeError):
    pass


def list_as_found(tree, arrays):
  tree["arrays"] = {
    name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()
  }


def one(rng, items):
  items = list(items)
  return items[rng.integers(len(items))]


def a_leaf(rng, tree):
  """The list or object that holds a leaf of a tree, and the leaf's key."""
  while True:
    key = one(rng, tree) if isinstance(tree, dict) else int(rng.integers(len(tree)))
    if not isinstance(tree[key], dict | list) or not tree[key]:
      return tree, key
    tree = tree[key]


def node(tree, rng, op=None):
  return one(rng, [n for n in tree["nodes"] if op in (None, n["op"])])

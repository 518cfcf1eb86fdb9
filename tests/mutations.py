"""Folders of a spiking network, each with one fault or one foreign thing in it.

A mutation changes either what the two files say (`said`), or the files as they lie on the disk
(`laid`). Each is written as a careless hand would, whose checksums are those of before, and as one
who computes them again.
"""

import copy
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import socket
import zipfile

import numpy as np

from tcljax.conversion.description import WEIGHTS, digest

DESCRIPTION = "network.json"
_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int32": "I32", "int8": "I8"}
ODD = (0, -1, 2, 7, 2**31, 10**30, 1.5, "a", None, True, [], [1], {}, [[1, 2], [3, 4]])
SAID, LAID = {}, {}


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


# What the files say: arrays.


@said(np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45)
def one_number(tree, arrays, rng, choice):
  array = arrays[one(rng, arrays)]
  array.reshape(-1)[rng.integers(array.size)] = choice


@said(np.nan, np.inf, 3e38, 0.0, 1e-45, -1e20)
def every_number(tree, arrays, rng, choice):
  arrays[one(rng, arrays)][...] = choice


@said(*[(dtype, listed) for dtype in ("float64", "float16", "int32", "int8") for listed in (0, 1)])
def other_type(tree, arrays, rng, choice):
  dtype, listed = choice
  name = one(rng, arrays)
  arrays[name] = arrays[name].astype(dtype)
  if listed:
    list_as_found(tree, arrays)


@said(*[(way, listed) for way in range(8) for listed in (0, 1)])
def other_shape(tree, arrays, rng, choice):
  way, listed = choice
  name = one(rng, [n for n in arrays if arrays[n].ndim])
  array = arrays[name]
  arrays[name] = (
    lambda: array.reshape(-1)[:1],
    lambda: array.reshape(-1)[:1].reshape(()),
    lambda: array.reshape(-1)[:1].reshape((1,) * array.ndim),
    lambda: array.reshape(-1),
    lambda: array[None],
    lambda: array[:0],
    lambda: np.concatenate([array, array]),
    lambda: array[:-1] if len(array) > 1 else array[..., None],
  )[way]()
  if listed:
    list_as_found(tree, arrays)


@said((1,), (1, 1), (), (2,))
def a_bias_that_broadcasts(tree, arrays, rng, choice):
  name = one(rng, [n for n in arrays if n.endswith("bias")])
  arrays[name] = np.ones(choice, np.float32)
  list_as_found(tree, arrays)


@said(*[(kind, where) for kind in ("bias", "kernel", "v_init", "") for where in range(3)])
def a_missing_array(tree, arrays, rng, choice):
  kind, where = choice
  name = one(rng, [n for n in arrays if n.endswith(kind)])
  if where != 1:
    del arrays[name]
  if where != 0:
    del tree["arrays"][name]


@said(*[(name, at) for at in range(3) for name in ("params/x/y", "../../x", "x", "", "a" * 5000)])
def an_extra_array(tree, arrays, rng, choice):
  name, where = choice
  if where != 1:
    arrays[name] = np.ones(3, np.float32)
  if where != 0:
    tree["arrays"][name] = {"shape": [3], "dtype": "float32"}


@said()
def arrays_exchanged(tree, arrays, rng, choice):
  first, second = (one(rng, arrays) for _ in range(2))
  arrays[first], arrays[second] = arrays[second], arrays[first]


@said(0, 1)
def numbers_exchanged(tree, arrays, rng, choice):
  array = arrays[one(rng, [n for n in arrays if arrays[n].size > 4])]
  array[...] = rng.permuted(array) if choice else array * np.float32(1 + 2**-20)


@said([2**40], [2**24, 2**24], [0], [-1], [1.5], ["3"], [[3]], [True], [1] * 100, "3", 3, None)
def a_listed_shape(tree, arrays, rng, choice):
  tree["arrays"][one(rng, arrays)]["shape"] = choice


@said("float64", "F32", "object", "<f4", "bfloat16", None, 4, ["float32"])
def a_listed_type(tree, arrays, rng, choice):
  tree["arrays"][one(rng, arrays)]["dtype"] = choice


@said(-87.5, -104.0, -200.0, -1e30, 1e30, 3e38)
def thresholds(tree, arrays, rng, choice):
  array = arrays[one(rng, [n for n in arrays if n.endswith("raw_threshold")])]
  array.reshape(-1)[: rng.integers(1, array.size + 1)] = choice


@said(0, 1, 2, 40, 1000)
def instalments(tree, arrays, rng, choice):
  name = one(rng, [n for n in arrays if n.endswith("v_init")])
  array = arrays[name].reshape(-1, arrays[name].shape[-1])
  arrays[name] = np.resize(array, (choice, array.shape[-1])).astype(np.float32)
  list_as_found(tree, arrays)


# What the header of the weights says.


@said("overlap", "hole", "behind", "negative", "reordered", "float", "missing")
def offsets(tree, arrays, rng, choice):
  def change(header):
    first, second = list(header)[:2]
    at = header[second]["data_offsets"]
    header[second]["data_offsets"] = {
      "overlap": header[first]["data_offsets"],
      "hole": [at[0] + 4, at[1] + 4],
      "behind": [2**60, 2**60 + at[1] - at[0]],
      "negative": [-4, at[1] - at[0] - 4],
      "float": [float(n) for n in at],
      "missing": [],
      "reordered": at,
    }[choice]
    return dict(reversed(header.items())) if choice == "reordered" else header

  return safetensors(arrays, change)


@said(b"", b"[" * 100000, b'{"a":' * 100000, b"\xff{}", b"null", b"{}", b" " * 2**20, b"[NaN]")
def a_header(tree, arrays, rng, choice):
  return safetensors(arrays, lambda header: choice)


@said(0, 1, 2**32, 2**63, 2**64 - 1)
def a_length_of_the_header(tree, arrays, rng, choice):
  return choice.to_bytes(8, "little") + safetensors(arrays)[8:]


@said({"a": "b"}, {"format": "pt"}, {"a": "b" * 10**6}, 3)
def notes_in_the_header(tree, arrays, rng, choice):
  return safetensors(arrays, lambda header: {"__metadata__": choice} | header)


# What the description says: the graph.


@said("before", "after", "itself", "unknown", "input:0", "", 3)
def an_edge(tree, arrays, rng, choice):
  names = [n["name"] for n in tree["nodes"]]
  at = rng.integers(1, len(names))
  found = {
    "before": lambda: one(rng, names[:at]),
    "after": lambda: one(rng, names[at:]),
    "itself": lambda: names[at],
  }
  inputs = tree["nodes"][at]["inputs"]
  inputs[rng.integers(len(inputs))] = found.get(choice, lambda: choice)()


@said("removed", "twice", "reversed", "exchanged", "none", "null", "a text")
def nodes(tree, arrays, rng, choice):
  at, there = rng.integers(len(tree["nodes"]), size=2)
  all_of = tree["nodes"]
  if choice == "removed":
    del all_of[at]
  elif choice == "twice":
    all_of.insert(there, copy.deepcopy(all_of[at]))
  elif choice == "reversed":
    all_of.reverse()
  elif choice == "exchanged":
    all_of[at], all_of[there] = all_of[there], all_of[at]
  else:
    tree["nodes"] = {"none": [], "null": None, "a text": "conv"}[choice]


@said("add", "sum", "dense", "conv", "neurons", "transpose", "fourier", "__class__", "", None, 3)
def an_operation(tree, arrays, rng, choice):
  node(tree, rng)["op"] = choice


@said(*ODD, *ODD)
def a_number_of_a_setting(tree, arrays, rng, choice):
  settings = one(rng, [n["settings"] for n in tree["nodes"] if n["settings"]])
  holder, key = a_leaf(rng, settings)
  holder[key] = choice


@said(*ODD, *ODD)
def a_setting(tree, arrays, rng, choice):
  settings = one(rng, [n["settings"] for n in tree["nodes"] if n["settings"]])
  settings[one(rng, settings)] = choice


@said("removed", "added", "precision", "renamed")
def names_of_settings(tree, arrays, rng, choice):
  settings = one(rng, [n["settings"] for n in tree["nodes"] if n["settings"]])
  if choice in ("removed", "renamed"):
    value = settings.pop(one(rng, settings))
  if choice != "removed":
    settings["precision" if choice == "precision" else "x"] = value if choice == "renamed" else 1


@said(
  {"window": 10**6, "stride": 1, "padding": 10**6 - 1, "of": "spikes"},
  {"window": 3000, "stride": 1, "padding": 2999, "of": "spikes"},
  {"window": 2, "stride": 10**12, "padding": 0, "of": "spikes"},
  {"window": 2, "stride": 1, "padding": 2, "of": "spikes"},
  {"window": 0, "stride": 1, "padding": 0, "of": "spikes"},
  {"window": 9, "stride": 9, "padding": 0, "of": "spikes"},
  {"window": 3, "stride": 1, "padding": 1, "of": "spikes"},
  {"window": 2, "stride": 2},
  {"window": 2, "stride": 2, "padding": 0},
  {"window": 2, "stride": 2, "padding": 0, "of": "pixels"},
)
def a_gate(tree, arrays, rng, choice):
  node(tree, rng, "neurons")["settings"] = dict(choice)


@said("window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count")
def a_huge_convolution(tree, arrays, rng, choice):
  settings = node(tree, rng, "conv")["settings"]
  value = int(10 ** rng.uniform(1, 9))
  settings[choice] = {"padding": [[value, value]] * 2, "feature_group_count": value}.get(
    choice, [value, value]
  )


@said("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
def a_huge_window(tree, arrays, rng, choice):
  settings = node(tree, rng, one(rng, ("sum_pool", "max_pool")))["settings"]
  value = int(10 ** rng.uniform(1, 9))
  entries = settings[choice]
  for axis in range(int(rng.integers(2)), len(entries)):
    entries[axis] = [value, value] if choice == "padding" else value


CHAINED = ("add", "concatenate", "transpose", "affine")


@said(*[(op, count) for op in CHAINED for count in (11, 20, 400, 2000, 3000)])
def a_long_chain(tree, arrays, rng, choice):
  op, count = choice
  last = tree["output"]
  for i in range(count):
    inputs = [last] if op in ("transpose", "affine") else [last, last]
    settings = {"concatenate": {"axis": 1}, "transpose": {"permutation": [0, 1]}}.get(op, {})
    last = f"{op}:{1000 + i}"
    if op == "affine":
      for name in ("scale", "shift"):
        arrays[f"params/{last}/{name}"] = np.full((1,), rng.uniform(0.9, 1), np.float32)
    tree["nodes"].append({"name": last, "op": op, "inputs": inputs, "settings": settings})
  tree["output"] = last
  list_as_found(tree, arrays)


@said(100, 20000, 200000)
def a_node_of_many_inputs(tree, arrays, rng, choice):
  node(tree, rng, "concatenate")["inputs"] *= choice


@said(50, 70, 300)  # Python writes some hundreds; `a_text` nests deeper
def nesting(tree, arrays, rng, choice):
  deep = []
  for _ in range(choice):
    deep = [deep]
  one(rng, (tree["metadata"], tree, node(tree, rng)["settings"], tree["spiking"]))["x"] = deep


@said("other", "unknown", "", None, 3, ["a"])
def an_output(tree, arrays, rng, choice):
  tree["output"] = node(tree, rng)["name"] if choice == "other" else choice


NAMES = ("", "a/b", "../../x", "x" * 1000, "IF_1", "act", "graph", "parent", "é", "a\nb", "\ud800")


@said(*NAMES, "setup", "__call__", "input:0", 3, "conv:1", "a.b.c", "apply", "params")
def a_name(tree, arrays, rng, choice):
  renamed = node(tree, rng, None if choice in ("conv:1", "params") else "neurons")
  before = renamed["name"]
  for other in tree["nodes"]:
    other["inputs"] = [choice if name == before else name for name in other["inputs"]]
  renamed["name"] = choice
  tree["output"] = choice if tree["output"] == before else tree["output"]
  for of in (tree["arrays"], arrays):
    for name in [name for name in of if f"/{before}/" in name]:
      of[name.replace(f"/{before}/", f"/{choice}/")] = of.pop(name)
  if choice == "\ud800":
    arrays.update({name.replace(choice, "?"): arrays.pop(name) for name in [*arrays]})


# What the description says: everything else.


@said(*[0, -1, 1, 3, 96, 2**14, 2**14 + 1, 2**24, 2**62, 10**30, 1.5, True, "8", None, [8]])
def time_steps(tree, arrays, rng, choice):
  tree["spiking"]["time_steps"] = choice


@said(*[-1, 1, 4, 6, 2**40, 1.0, False, "1", None])
def chunk(tree, arrays, rng, choice):
  tree["spiking"]["chunk"] = choice


@said(2**16, 2**14, 840)
def many_steps_at_a_time(tree, arrays, rng, choice):
  tree["spiking"] |= {"time_steps": choice, "chunk": choice}


@said(-1, 1, 5, 6, 2**40, 0.5, True, "0", None)
def delay(tree, arrays, rng, choice):
  tree["spiking"]["delay"] = choice


@said("poisson", "constant", "rate", "", None, 1, ["constant"])
def encoding(tree, arrays, rng, choice):
  tree["spiking"]["encoding"] = choice


@said(
  {"reset": "hard"},
  {"reset": "slow"},
  {"reset": None},
  {"surrogate": "arctan"},
  {"surrogate": "x"},
  {"width": float("nan")},
  {"width": float("inf")},
  {"width": -1.0},
  {"width": 0.0},
  {"width": 1},
  {"width": "1"},
  {"width": 1e308},
  {"x": 1},
)
def neuron(tree, arrays, rng, choice):
  tree["spiking"]["neuron"] |= choice


@said(
  [],
  [0, 8, 2],
  [-8, 8, 2],
  ["8", 8, 2],
  [10**9, 10**9, 2],
  [10**30, 8, 2],
  [8, 8],
  [8, 8, 2, 1],
  [8.0, 8, 2],
  [True, 8, 2],
  [16, 16, 2],
  [8, 8, 3],
  [9, 8, 2],
  [[8, 8, 2]],
  "882",
  None,
  [1] * 200,
)
def input_shape(tree, arrays, rng, choice):
  tree["input_shape"] = choice


@said(3, 5, 99, 0, -4, 4.0, "4", True, None, [4], 10**4000)
def version(tree, arrays, rng, choice):
  tree["format"] = choice


@said(*ODD)
def a_field(tree, arrays, rng, choice):
  tree[one(rng, tree)] = choice


@said("removed", "added")
def fields(tree, arrays, rng, choice):
  where = one(rng, (tree, tree["spiking"], node(tree, rng), tree["spiking"]["neuron"]))
  if choice == "removed":
    del where[one(rng, where)]
  else:
    where["x"] = 1


@said({}, {"a": None}, {"note": "x" * 10**6}, {"note": "x" * 10**7}, {"\ud800": "\ud800"}, [], None)
def metadata(tree, arrays, rng, choice):
  tree["metadata"] = choice


@said({}, {"../../etc/passwd": {"bytes": 3, "sha256": ""}}, {"/dev/zero": {}}, None, [WEIGHTS])
def files(tree, arrays, rng, choice):
  tree["files"] = choice


@said(("bytes", 0), ("bytes", -1), ("bytes", 2**62), ("bytes", 1.0), ("sha256", ""), ("sha256", 3))
def what_is_said_of_a_file(tree, arrays, rng, choice):
  tree["files"][WEIGHTS][choice[0]] = choice[1]


# The files as they lie on the disk.


def changed(path, change):
  path.write_bytes(change(path.read_bytes()))


@laid(*[DESCRIPTION, WEIGHTS] * 6)
def a_bit(folder, rng, choice):
  def flip(raw):
    raw = bytearray(raw)
    raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    return bytes(raw)

  changed(folder / choice, flip)


@laid(*[DESCRIPTION, WEIGHTS] * 4)
def cut_off(folder, rng, choice):
  changed(folder / choice, lambda raw: raw[: one(rng, (0, 1, 7, 8, 9, len(raw) // 2, -1))])


@laid(*[(name, end) for name in (DESCRIPTION, WEIGHTS) for end in (b"\0", b" ", b"}", b"\0" * 999)])
def appended(folder, rng, choice):
  changed(folder / choice[0], lambda raw: raw + choice[1])


@laid(*[(name, size) for name in (DESCRIPTION, WEIGHTS) for size in (2**24, 2**30, 3 * 2**30)])
def grown(folder, rng, choice):
  os.truncate(folder / choice[0], choice[1])  # with zeros that take no place


TEXTS = (
  lambda text: text.replace('"format"', '"output": "x", "format"', 1),
  lambda text: text.replace('"name"', '"name": "x", "name"', 1),
  lambda text: text.replace('"width": 1.0', '"width": NaN'),
  lambda text: text.replace('"width": 1.0', '"width": Infinity'),
  lambda text: text.replace('"width": 1.0', '"width": 1e999'),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": NaN, '),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": 1, "x": 1, '),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "1" * 5000 + ", "),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "[" * 5000 + "]" * 5000 + ", "),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "[" * 10**6),
  lambda text: "[" * 10**6,
  lambda text: '{"a":' * 10**5,
  lambda text: "[" + "[]," * (4 * 10**5) + "[]]",
  lambda text: '"' + '\\"' * 10**6,
  lambda text: "null",
  lambda text: "[]",
  lambda text: "4",
  lambda text: "// a comment\n" + text,
  lambda text: text.replace(",", ",\n\n"),
)


@laid(*TEXTS)
def a_text(folder, rng, choice):
  changed(folder / DESCRIPTION, lambda raw: choice(raw.decode()).encode())


@laid("utf-16", "utf-8-sig", "utf-32", b"\xff\xfe", b"\x80")
def letters(folder, rng, choice):
  if isinstance(choice, str):
    changed(folder / DESCRIPTION, lambda raw: raw.decode().encode(choice))
  else:
    changed(folder / DESCRIPTION, lambda raw: raw.replace(b'"metadata": {', b'"' + choice, 1))


@laid(*[(name, way) for way in ("missing", "directory", "pipe", "socket") for name in (0, 1)])
def no_file(folder, rng, choice):
  path = folder / (DESCRIPTION, WEIGHTS)[choice[0]]
  path.unlink()
  if choice[1] == "directory":
    path.mkdir()
  elif choice[1] == "pipe":
    os.mkfifo(path)
  elif choice[1] == "socket":
    before = os.getcwd()
    os.chdir(folder)  # as the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
      made.bind(path.name)
    os.chdir(before)


LINKS = ("/dev/zero", "/dev/random", "/dev/full", "/dev/null", "/dev/tty", "/proc/self/mem")


@laid(
  *[
    (i % 2, to)
    for i, to in enumerate([*LINKS, "/proc/kmsg", "/etc/passwd", "loop", ".", "nowhere"])
  ]
)
def a_link(folder, rng, choice):
  path = folder / (DESCRIPTION, WEIGHTS)[choice[0]]
  path.unlink()
  path.symlink_to(path.name if choice[1] == "loop" else choice[1])


@laid(DESCRIPTION, WEIGHTS)
def a_link_to_the_file(folder, rng, choice):
  (folder / choice).rename(folder / "elsewhere")
  (folder / choice).symlink_to("elsewhere")


class Executed:
  def __reduce__(self):
    return pathlib.Path.touch, (pathlib.Path("/tmp/executed-by-a-network"),)


def archive(encrypted=False, large=0):
  """A zip, marked as encrypted, or with an entry that unpacks to many times its size."""
  made = io.BytesIO()
  with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
    opened.writestr("../../a.npy", b"\0" * (large or 100))
  raw = bytearray(made.getvalue())
  if encrypted:
    raw[6] |= 1
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
  return bytes(raw)


@laid("zip", "encrypted", "bomb", "pickle", "noise", "gzip", "elf", "npz beside")
def foreign(folder, rng, choice):
  made = {
    "zip": archive,
    "encrypted": lambda: archive(encrypted=True),
    "bomb": lambda: archive(large=2**26),
    "pickle": lambda: pickle.dumps(Executed()),
    "noise": lambda: rng.bytes(4096),
    "gzip": lambda: b"\x1f\x8b\x08" + rng.bytes(100),
    "elf": lambda: b"\x7fELF" + rng.bytes(4096),
    "npz beside": lambda: archive(large=2**26),
  }[choice]()
  (folder / ("arrays.npz" if choice == "npz beside" else WEIGHTS)).write_bytes(made)

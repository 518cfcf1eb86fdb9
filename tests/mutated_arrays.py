"""Mutations of what the two files say of arrays."""

import numpy as np
from mutating import list_as_found, one, safetensors, said


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

"""Mutations of what network.json says: the graph, and everything else."""

import copy

import numpy as np
from mutating import ODD, a_leaf, list_as_found, node, one, said

from tcljax.conversion.description import STEP, WEIGHTS


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
  {"window": [3, 2], "stride": [2, 1], "padding": [[1, 2], 1], "of": "spikes"},
  {"window": [3, 2], "stride": 2, "padding": "SAME", "of": "currents"},
  {"window": [3, 2, 1], "stride": 1, "padding": "SAME", "of": "spikes"},
  {"window": 10**12, "stride": 1, "padding": "SAME", "of": "spikes"},
  {"window": 9, "stride": 10**12, "padding": "SAME", "of": "spikes"},
  {"window": [2, 2], "stride": 2, "padding": [[0, 2], 0], "of": "spikes"},
  {"window": 2, "stride": 2, "padding": "VALID", "of": "spikes"},
  {"window": 2, "stride": None, "padding": 0, "of": "spikes"},
  {"window": 2, "stride": 2, "padding": 0, "of": "spikes", "bound": 0.5},
)
def a_gate(tree, arrays, rng, choice):
  node(tree, rng, "neurons")["settings"] = dict(choice)


@said(6.0, 0.5, 0.0, -1.0, 1e300, 1e-45, float("nan"), float("inf"), 6, True, "6", None, [6.0])
def a_bound(tree, arrays, rng, choice):
  node(tree, rng, "neurons")["settings"]["bound"] = choice


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


@said(*[(op, count) for op in CHAINED for count in (11, 20, 400, 3000)], ("transpose", 2000))
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


@said("other", "unknown", "", None, 3, ["a"], {}, [[]], {"a": None}, {"a": "unknown"})
def an_output(tree, arrays, rng, choice):
  tree["output"] = node(tree, rng)["name"] if choice == "other" else choice


@said("a", "", "a/b", "x" * 1000, "\ud800", 1, 2, 300, 20000)
def outputs(tree, arrays, rng, choice):
  """Several: by name, or so many times the same."""
  last = tree["output"]
  tree["output"] = {choice: last} if isinstance(choice, str) else [last] * choice


@said("a", "", "a/b", "x" * 1000, 1, 2, 300, 20000)
def inputs(tree, arrays, rng, choice):
  shape = tree["input_shape"]
  tree["input_shape"] = {choice: shape} if isinstance(choice, str) else [shape] * choice


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


@said("poisson", "constant", "frames", "rate", "", None, 1, ["constant"])
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
  {"phase": 3},
  {"phase": 9},
  {"phase": 2.0},
  {"phase": 2, "burst": 2},
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
  [[8, 8, 2], 3],
  {"a": [[], {}]},
  "882",
  None,
  [1] * 200,
)
def input_shape(tree, arrays, rng, choice):
  tree["input_shape"] = choice


@said(4, 5, 6, 8, 99, 0, -5, 5.0, "5", True, None, [5], 10**4000)
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


@said(("bytes", 0), ("bytes", 2**62), ("sha256", ""), ("sha256", "0" * 64), ("sha256", None), None)
def what_is_said_of_the_step(tree, arrays, rng, choice):
  if choice is None:
    del tree["files"][STEP]
  else:
    tree["files"][STEP][choice[0]] = choice[1]

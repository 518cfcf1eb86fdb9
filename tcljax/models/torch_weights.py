"""Pretrained weights from PyTorch's world: state dicts into the variables of our models.

The names are those that the families are published under: torchvision's VGG and ResNet, and the
CIFAR ResNets of He et al. in the layout that most PyTorch repositories share with torchvision
(`layer1.0.conv1.weight`, with `linear` or `fc` as head).
"""

import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcljax.files import checked_path
from tcljax.layers.collections import Variables
from tcljax.maths.inputs import as_numbers, check_all_finite
from tcljax.models import VGG, ResNet

FORMATS = (".th", ".pth", ".pt", ".safetensors", ".npz")
# Where training scripts keep the state dict among other things, and what wrappers put before names.
_NESTED = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
_ALIASES = ((r"^linear\.", "fc."), (r"\.shortcut\.", ".downsample."))
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}


def load_pretrained(
  path: str | os.PathLike, model: nn.Module, input_shape: tuple[int, ...]
) -> Variables:
  """Reads the weights of a model from a PyTorch checkpoint, safetensors or npz.

  All formats hold the names and layouts of a PyTorch state dict. Convolution kernels become
  [H, W, in, out], matrices [in, out], and the first dense layer after a flattened image expects the
  channels last.

  Args:
    path: `.th`, `.pth` or `.pt` (read with `weights_only=True`, which runs no code of the file;
      needs PyTorch), `.safetensors` or `.npz`.
    model: a `ResNet` or a `VGG`.
    input_shape: shape of one image, [H, W, C].

  Returns:
    `params` and, where the model has BatchNorm, `batch_stats`, in float32.

  Raises:
    ValueError: if the file cannot be read, or its names or shapes are not those of the model; all
      differences are listed.

  Examples:
    >>> import tempfile
    >>> import numpy as np
    >>> import tcljax
    >>> model = tcljax.VGG(num_classes=2, stages=((3,),), dense=(), batch_norm=False)
    >>> state = {"features.0.weight": np.ones((3, 1, 3, 3)), "features.0.bias": np.zeros(3)}
    >>> state |= {"classifier.0.weight": np.ones((2, 12)), "classifier.0.bias": np.zeros(2)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   np.savez(f"{folder}/weights.npz", **state)
    ...   variables = tcljax.load_pretrained(f"{folder}/weights.npz", model, (4, 4, 1))
    >>> variables["params"]["conv1_1"]["kernel"].shape, variables["params"]["head"]["kernel"].shape
    ((3, 3, 1, 3), (12, 2))
  """
  names = _torch_names(model)
  state = _with_channels_last(read_state_dict(path), model)
  expected: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *input_shape), jnp.float32)))
  )
  found, problems, used = {}, [], set()
  for (collection, *layer, leaf), abstract in expected.items():
    key = f"{names(layer)}.{_LEAVES[leaf]}"
    used.add(key)
    if key not in state:
      problems.append(f"{key} {list(_torch_shape(abstract.shape))} is missing")
      continue
    array = _to_jax_layout(state[key], abstract.shape)
    if array is None:
      problems.append(
        f"{key} is {list(state[key].shape)}, the model's "
        f"{'/'.join([*layer, leaf])} wants {list(_torch_shape(abstract.shape))}"
      )
      continue
    found[(collection, *layer, leaf)] = array
  problems += [
    f"{key} {list(state[key].shape)} has no place in the model" for key in state if key not in used
  ]
  if problems:
    raise ValueError(f"{path} does not fit the model {type(model).__name__}: {'; '.join(problems)}")
  return traverse_util.unflatten_dict(found)


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The arrays of a checkpoint in float32 by their torchvision names, without batch counters.

  Raises:
    ValueError: if the file is not there, of another format, damaged, or holds no state dict.
  """
  path = checked_path("path", path)
  if path.suffix not in FORMATS:
    raise ValueError(f"{path} is no checkpoint by its name: it must end in {', '.join(FORMATS)}")
  if not path.is_file():
    raise ValueError(f"{path} does not exist")
  read = {".npz": _read_npz, ".safetensors": _read_safetensors}.get(path.suffix, _read_torch)
  try:
    tensors = read(path)
  except ImportError as error:
    raise ValueError(
      f"{path} takes PyTorch to read: pip install torch, or save the weights as .safetensors or "
      ".npz"
    ) from error
  except Exception as error:  # damage shows as errors of many kinds
    raise ValueError(
      f"{path} cannot be read, it may be damaged: {type(error).__name__}: "
      f"{str(error).partition(chr(10))[0]}"
    ) from error
  state = {
    _torchvision_name(name): np.asarray(as_numbers(f"{path}: {name}", array), np.float32)
    for name, array in tensors.items()
    if not name.endswith("num_batches_tracked")
  }
  if not state:
    raise ValueError(f"{path} holds no arrays by name: is it a state dict?")
  for name, array in state.items():
    check_all_finite(f"{path}: {name}", array)
  return state


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(path, allow_pickle=False) as arrays:
    return dict(arrays)


def _read_safetensors(path: pathlib.Path) -> dict[str, jax.Array]:
  from safetensors.flax import load_file  # unlike its NumPy twin it knows bfloat16

  return load_file(path)


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  import torch

  state = torch.load(path, map_location="cpu", weights_only=True)
  if not isinstance(state, dict):
    return {}
  state = next((state[name] for name in _NESTED if isinstance(state.get(name), dict)), state)
  return {
    name: (value.detach() if value.is_complex() else value.detach().float()).numpy()
    for name, value in state.items()
    if isinstance(value, torch.Tensor)
  }


def _torchvision_name(name: str) -> str:
  while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
    name = name.removeprefix(prefix)
  for pattern, replacement in _ALIASES:
    name = re.sub(pattern, replacement, name)
  return name


def _torch_names(model: nn.Module) -> Callable[[Sequence[str]], str]:
  """A function from the path of one of the model's layers to its name in a state dict."""
  if isinstance(model, ResNet):
    return _resnet_name
  if isinstance(model, VGG):
    table = _vgg_names(model)
    return lambda layer: table[layer[0]]
  raise ValueError(f"weights can be imported into ResNet and VGG, not into {type(model).__name__}")


_RESNET_LAYERS = {
  "stem_conv": "conv1",
  "stem_norm": "bn1",
  "norm1": "bn1",
  "norm2": "bn2",
  "projection": "downsample.0",
  "projection_norm": "downsample.1",
  "head": "fc",
}


def _resnet_name(layer: Sequence[str]) -> str:
  *block, name = layer
  name = _RESNET_LAYERS.get(name, name)
  if not block:
    return name
  stage, index = re.findall(r"\d+", block[0])  # of "stage1_block2"
  return f"layer{stage}.{int(index) - 1}.{name}"


def _vgg_names(model: VGG) -> dict[str, str]:
  """Torchvision counts every module of `features`: convolution, norm, activation and pooling."""
  names, position = {}, 0
  for i, widths in enumerate(model.stages, 1):
    for j in range(1, len(widths) + 1):
      names[f"conv{i}_{j}"] = f"features.{position}"
      if model.batch_norm:
        names[f"norm{i}_{j}"] = f"features.{position + 1}"
      position += 3 if model.batch_norm else 2
    position += 1
  # In `classifier` an activation and a dropout stand between two dense layers.
  layers = [*(f"dense{i}" for i in range(1, len(model.dense) + 1)), "head"]
  return names | {name: f"classifier.{3 * i}" for i, name in enumerate(layers)}


def _with_channels_last(state: dict[str, np.ndarray], model: nn.Module) -> dict[str, np.ndarray]:
  """The state with the rows of a VGG's first dense layer in the order of a flattened [H, W, C]."""
  if not isinstance(model, VGG):
    return state
  name, channels = "classifier.0.weight", model.stages[-1][-1]
  if name not in state or state[name].ndim != 2 or state[name].shape[1] % channels:
    return state  # told below, with whatever else does not fit
  kernel = state[name]
  pixels_last = kernel.reshape(len(kernel), channels, -1)
  return {**state, name: pixels_last.transpose(0, 2, 1).reshape(kernel.shape)}


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """The layout of PyTorch for a shape of ours."""
  return shape[:-3:-1] + shape[:-2] if len(shape) > 1 else shape


def _to_jax_layout(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
  """The array in our layout; None if its shape is not the one that `shape` stands for."""
  if array.shape != _torch_shape(shape):
    return None
  return np.ascontiguousarray(
    array.transpose(*range(2, array.ndim), 1, 0) if array.ndim > 1 else array
  )

"""What `torch.export` lists of modules, in JAX: lines of the source, trees of tensors, types."""

import pathlib

import jax
import numpy as np
import pytest
import torch
from torch import nn

import tcljax

X = torch.zeros(2, 4)


class Curved(nn.Module):
  """ReLUs, a GELU as a module, and a functional SiLU, each on a line of its own."""

  def __init__(self, curve):
    super().__init__()
    self.first, self.gelu, self.curve = nn.Linear(4, 4), nn.GELU(), curve

  def forward(self, x):
    x = self.first(x).clamp(min=0)  # of the first line
    if self.curve == "gelu":
      x = self.gelu(x)  # of the module
    if self.curve == "silu":
      x = nn.functional.silu(x - 1)  # of the function
    if self.curve == "erfinv":
      x = torch.erfinv(x)  # of what is not known
    return nn.functional.relu(self.first(x))  # of the last line


def line_of(comment):
  """Where a line of this file stands, by the comment at its end."""
  lines = pathlib.Path(__file__).read_text().splitlines()
  [number] = [i for i, line in enumerate(lines, 1) if line.endswith(f"# {comment}")]
  return f"{pathlib.Path(__file__).name}:{number}"


@pytest.mark.parametrize(
  "curve, told, comment",
  [
    ("gelu", r"applies `\w+` in gelu \({}\)", "of the module"),
    ("silu", r"applies `logistic` \({}\)", "of the function"),
    ("erfinv", r"aten.erfinv.default in the module \({}\) is an operation", "of what is not known"),
  ],
)
def test_a_refusal_names_the_line_of_the_users_own_forward(curve, told, comment):
  with pytest.raises(ValueError, match=told.format(line_of(comment))):
    tcljax.from_torch(Curved(curve), X)


def test_the_table_names_the_lines_of_the_users_own_forward():
  fates = tcljax.from_torch(Curved(""), X).operations
  lines = [fate.source for fate in fates if fate.fate == "population"]
  assert lines == [line_of("of the first line"), line_of("of the last line")]


class Joined(nn.Module):
  """Of a dictionary and of several tensors, into a dictionary with a tuple in it."""

  def __init__(self):
    super().__init__()
    self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

  def forward(self, given, *more):
    x = torch.relu(self.left(given["zero"]) + self.right(given["one"]))
    return {"sum": x + more[0], "parts": (x[:, :1], torch.relu(more[1]))}


def test_dictionaries_and_several_tensors_go_in_and_out_as_the_module_has_them():
  draw = lambda n: torch.randn(5, n, generator=torch.Generator().manual_seed(n))
  given = {"zero": draw(4), "one": draw(2)}, draw(3), draw(1)
  torch.manual_seed(0)
  module = Joined()
  network = tcljax.from_torch(module, given)
  found = network.model.apply(network.variables, jax.tree.map(lambda x: x.numpy(), given))
  with torch.no_grad():
    expected = module(*given)
  assert sorted(found) == ["parts", "sum"] and len(found["parts"]) == 2
  for one, other in zip(jax.tree.leaves(dict(found)), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_what_a_module_does_to_its_weights_and_types_is_taken_over():
  """Norms of weights, a module that is compiled, bytes that it makes floats of, another type."""

  class Bytes(nn.Module):
    def __init__(self):
      super().__init__()
      self.first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
      self.last = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).bfloat16()

    def forward(self, x):
      x = torch.relu(self.first(2 * x.float() / 255))
      return self.last(x.to(torch.bfloat16)).float()

  torch.manual_seed(0)
  module = Bytes()
  x = torch.arange(12, dtype=torch.uint8).reshape(3, 4) * 20
  network = tcljax.from_torch(torch.compile(module), x)
  assert network.populations == ("relu",)
  found = network.model.apply(network.variables, x.numpy())
  with torch.no_grad():
    np.testing.assert_allclose(found, module.eval()(x), rtol=0.05, atol=0.01)

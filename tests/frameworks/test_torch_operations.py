"""Operations of PyTorch one by one: squeezed axes, constants of `forward`, and what is refused."""

import pathlib
import sys

import numpy as np
import pytest
import torch
from torch import nn

import tcljax

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Applying(nn.Module):
  """Functions of the module and of what a ReLU gives; the outputs of several are several."""

  def __init__(self, *functions):
    super().__init__()
    torch.manual_seed(0)
    self.layer, self.last, self.functions = nn.Linear(8, 8), nn.Linear(8, 3), functions
    self.register_buffer("mask", torch.tensor([True, False] * 4))
    self.register_buffer("order", torch.tensor([7, 6, 5, 4, 3, 2, 1, 0]))

  def forward(self, x):
    x = torch.relu(self.layer(x))
    return tuple(self.last(function(self, x)) for function in self.functions)


def check_answers(functions, example, x):
  """Raises unless each function answers as in PyTorch, on inputs other than the example."""
  module = Applying(*functions)
  network = tcljax.from_torch(module, example)
  found = network.model.apply(network.variables, x.numpy())
  with torch.no_grad():
    expected = module.eval()(x)
  for i, (one, other) in enumerate(zip(found, expected, strict=True)):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=str(i))
  return network


SQUEEZED = (
  lambda m, h: h[:, None, :, None].squeeze(),
  lambda m, h: h[:, None, :, None].squeeze((1, 2, 3)),
  lambda m, h: h.squeeze(1),
  lambda m, h: h[:, :, None].squeeze(-1),
  lambda m, h: h[:, None].squeeze((-1, -2)),
)


def test_only_axes_of_size_1_are_squeezed_and_never_that_of_the_batch():
  network = check_answers(SQUEEZED, X[:1], X)  # of one example, whose batch PyTorch would squeeze
  found = network.model.apply(network.variables, X.numpy())
  for one, alone in zip(found, network.model.apply(network.variables, X[:1].numpy())):
    assert alone.shape == (1, 3)
    np.testing.assert_allclose(alone, one[:1], rtol=1e-5, atol=1e-6)


OF_NO_INPUT = (
  lambda m, h: torch.roll(h, 2, -1),
  lambda m, h: h.view(-1, 2, 4).roll((1, 2), (1, 2)).flatten(1),
  lambda m, h: h + torch.sin(torch.arange(8.0)),
  lambda m, h: h * torch.linspace(0, 1, 8).sinh(),
  lambda m, h: torch.cat([h[:, m.mask]] * 2, 1),  # of which export asserts the size
  lambda m, h: h[:, torch.arange(8).flip(0)],
  lambda m, h: h * m.layer.bias.sum().item(),
  lambda m, h: h * m.layer.bias.sort()[0],
  lambda m, h: h + nn.functional.one_hot(m.order, 8).float()[0],
  lambda m, h: h @ torch.full((8, 8), 2).tril().float(),
  lambda m, h: h * torch.tensor(2.0).log(),
  # Of the number of examples alone.
  lambda m, h: torch.cat([m.layer.bias[:4].expand(h.shape[0], 4), h[:, :4]], 1),
  lambda m, h: torch.cat([h[:, :4], h.new_zeros(h.size(0), 4)], 1),
  lambda m, h: h[torch.arange(h.shape[0]).fmod(h.shape[0])],
  lambda m, h: torch.empty_like(h).fill_(0.5) + h,
  lambda m, h: h[:, torch.arange(8) < 8 * h.shape[0]],
)


def test_what_does_not_depend_on_the_input_is_computed_by_pytorch():
  check_answers(OF_NO_INPUT, X[:1], torch.cat([X, 2 * X]))


READ = (
  lambda m, h: h - h.amin(-1, keepdim=True),
  lambda m, h: h + h.min(1, keepdim=True)[0],
  lambda m, h: h.index_fill(1, m.order[:2], 0.5),
  lambda m, h: torch.ones(h.shape[0], 8).index_add(1, m.order, h),
  lambda m, h: h.view(-1, 2, 4).diagonal(1, 1, 2).repeat(1, 4),
)


def test_minima_and_what_is_put_at_constant_places_are_read():
  check_answers(READ, X[:1], torch.cat([X, 2 * X]))


def test_memory_that_is_not_filled_is_zero(monkeypatch):
  """PyTorch fills it with NaN where it is told to be deterministic, else with what lay there."""
  monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
  padded = lambda m, h: torch.cat([h, torch.empty(1, 8).expand(h.shape[0], 8)], 1)[:, :8]
  torch.use_deterministic_algorithms(True)
  try:
    check_answers([padded], X[:1], X)
  finally:
    torch.use_deterministic_algorithms(False)


NN = nn.functional


@pytest.mark.parametrize(
  "function, told",
  [
    (lambda m, h: NN.softplus(h), "applies `exp` .*put ReLU in place"),
    (lambda m, h: NN.mish(h), "applies `exp` .*put ReLU in place"),
    (lambda m, h: NN.celu(h - 0.5), "applies `expm1` .*put ReLU"),
    (lambda m, h: h - h.var(1, keepdim=True), "applies `square` .*take BatchNorm"),
    (lambda m, h: NN.normalize(h), r"applies `\w+` .*take BatchNorm"),
    (lambda m, h: h.cos(), "applies `cos` .*put ReLU"),
    (lambda m, h: (h + 1).log10(), "applies `log` .*put ReLU"),
    (lambda m, h: NN.softshrink(h), "applies `sign` .*put ReLU"),
    (lambda m, h: h.round(decimals=1), "applies `round` .*leave rounding"),
    (lambda m, h: h + torch.poisson(torch.ones(8)), "^aten.poisson.* is random"),
    (lambda m, h: m.order.float()[None], "the model returns what does not depend on its input"),
  ],
)
def test_what_no_form_can_carry_is_not_told_to_be_written_in_another(function, told):
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.from_torch(Applying(function), X)
  assert "\n" not in str(raised.value) and "a function of JAX" not in str(raised.value)


def test_a_variance_and_a_norm_are_those_of_pytorch():
  """They differ by what is added to them, so that the network is compared before it is refused."""
  of_both = lambda m, h: (
    h.var(1, keepdim=True) + h.var(1, correction=0, keepdim=True) + h.norm(1, 1, keepdim=True)
  )
  with pytest.raises(ValueError, match="the model applies"):
    tcljax.from_torch(Applying(lambda m, h: h + of_both(m, h)), X)


class Counting(nn.Module):
  """It asks for the number of examples in a submodule."""

  def __init__(self, kind):
    super().__init__()
    self.kind = kind

  def forward(self, x):
    if self.kind == "if":
      x = x if x.shape[0] > 5 else 2 * x  # by if
    if self.kind == "len":
      x = x / len(x)  # by len
    if self.kind == "cut":
      x = torch.cat([x, x], 0)[: len(x)]  # by a cut
    if self.kind == "view":
      x = x.view(3, -1)  # by view
    if self.kind == "cdist":
      x = x + torch.cdist(x, x)[:, :1]  # by cdist
    return torch.relu(x)


@pytest.mark.parametrize(
  "kind, at",
  [("if", ""), ("len", ""), ("a cut", ""), ("view", ", by `view`"), ("cdist", ", by `cdist`")],
)
def test_what_uses_the_number_of_examples_is_told_with_its_line(kind, at, capfd):
  lines = pathlib.Path(__file__).read_text().splitlines()
  [number] = [i for i, line in enumerate(lines, 1) if line.endswith(f"# by {kind}")]
  told = (
    rf"^the module uses the number of examples in a batch{at} \({{}}:{number}\): .*x.shape\[0\]"
  )
  module = nn.Sequential(nn.Linear(8, 8), Counting(kind.removeprefix("a ")), nn.Linear(8, 3))
  with pytest.raises(ValueError, match=told.format(pathlib.Path(__file__).name)) as raised:
    tcljax.from_torch(module, X)
  assert "\n" not in str(raised.value) and capfd.readouterr() == ("", "")


def test_the_number_of_examples_is_told_where_its_line_is_not_found(monkeypatch, capfd):
  def fail(*args, **kwargs):
    print("what PyTorch logs of itself", file=sys.stderr)
    raise RuntimeError("no export")

  broken = type("Mode", (), {"__enter__": fail, "__exit__": fail})
  monkeypatch.setattr(torch.overrides, "TorchFunctionMode", broken)
  with pytest.raises(ValueError, match=r"examples in a batch: torch.export fixes it there"):
    tcljax.from_torch(nn.Sequential(nn.Linear(8, 8), Counting("len")), X)
  assert capfd.readouterr() == ("", "")


def test_what_pytorch_checks_on_the_way_is_no_operation():
  """Of matrices that are inverted; the checks come one after the other in what is exported."""
  check_answers((lambda m, h: h @ torch.linalg.inv(2 * torch.eye(8)),), X[:1], X)


def test_constants_have_the_type_that_is_asked_for():
  whole = lambda m, h: h * torch.full_like(h, 2.7, dtype=torch.int64)
  check_answers((whole,), X[:1], X)


@pytest.mark.parametrize("which", ["max", "min"])
def test_places_of_extremes_are_refused(which):
  places = lambda m, h: h + getattr(h, which)(dim=1, keepdim=True)[1]
  with pytest.raises(ValueError, match=r"add.Tensor .*reads the places of maxima or"):
    tcljax.from_torch(Applying(places), X)

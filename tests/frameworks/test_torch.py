"""Networks of PyTorch, as `torch.export` lists them, against PyTorch itself."""

import jax
import numpy as np
import pytest
import torch
from torch import nn

import tcljax
from tcljax.frameworks import exported


class Block(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.conv = nn.Conv2d(width, width, 3, padding=1, groups=2)
    self.norm = nn.BatchNorm2d(width)
    self.act = nn.ReLU(inplace=True)

  def forward(self, x):
    return self.act(x - self.norm(self.conv(x)))


class Net(nn.Module):
  """Functional and modular ReLUs, a block used twice, and branches."""

  def __init__(self):
    super().__init__()
    self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6())
    self.block = Block(4)
    self.out = nn.Linear(16, 5)

  def forward(self, x):
    x = self.stem(x)
    x = self.block(self.block(x))
    x = nn.functional.max_pool2d(torch.cat([x, nn.functional.relu(x - 0.2)], 1)[:, 2:6], 2)
    return self.out(nn.functional.dropout(torch.flatten(x, 1), training=self.training))


def lively(module):
  """The module with statistics of BatchNorm that matter."""
  torch.manual_seed(0)
  for one in module.modules():
    if isinstance(one, nn.BatchNorm2d):
      one.running_mean.normal_()
      one.running_var.uniform_(0.5, 2.0)
      one.weight.data.uniform_(-1, 1.5)
  return module


def test_a_module_is_evaluated_on_a_copy_and_its_populations_have_its_names():
  module, x = lively(Net()), torch.randn(3, 3, 8, 8)
  network = tcljax.from_torch(module, x)
  assert module.training
  assert network.populations == (
    "stem.2.relu",
    "block.act.relu",
    "block.act.relu_2",
    "block.act.relu_3",  # which pools, of the same currents
    "relu",
  )
  found = network.model.apply(network.variables, x.numpy())
  np.testing.assert_allclose(found, module.eval()(x).detach(), rtol=1e-4, atol=1e-5)
  assert tcljax.calibrate(network.model, network.variables, [x.numpy()])


# Each between two convolutions, so that what it gives is used.
LAYERS = (
  nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), dilation=(1, 2), groups=2),
  nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
  nn.ConvTranspose2d(4, 3, (2, 3), 1, 0, dilation=2),
  nn.MaxPool2d(3, 2, 1, ceil_mode=True),
  nn.MaxPool2d((2, 3), stride=(1, 2)),
  nn.AvgPool2d(3, 2, 1, ceil_mode=True),
  nn.AvgPool2d(2, 1, 1, count_include_pad=False),
  nn.AdaptiveAvgPool2d((3, 2)),
  nn.AdaptiveMaxPool2d(1),
  nn.Upsample(scale_factor=2),
  nn.Upsample((5, 11), mode="bilinear"),
  nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
  nn.PixelShuffle(2),
  nn.ChannelShuffle(2),
  nn.ReflectionPad2d((1, 2, 0, 1)),
  nn.ReplicationPad2d(1),
  nn.ConstantPad2d((1, 0, 2, -1), 0.5),
  nn.CircularPad2d(1),
  nn.PReLU(4),
  nn.LeakyReLU(0.2),
  nn.Hardtanh(-0.5, 0.5),
  nn.Hardsigmoid(),
  nn.Threshold(0.0, 0.0),
  nn.Flatten(2),
  nn.Unflatten(1, (2, 2)),
)


class All(nn.Module):
  """All layers beside each other, so that they are exported and compiled once."""

  def __init__(self):
    super().__init__()
    self.stem = nn.Conv2d(3, 4, 3, padding=1)
    self.layers = nn.ModuleList(LAYERS)

  def forward(self, x):
    x = torch.relu(self.stem(x))
    return tuple(layer(x - 0.1 if isinstance(layer, nn.PReLU) else x) for layer in self.layers)


def test_every_layer_is_pytorchs_own():
  module, x = lively(All()), torch.randn(3, 3, 8, 8)
  network = tcljax.from_torch(module, x)
  found = network.model.apply(network.variables, x.numpy())
  with torch.no_grad():
    expected = module.eval()(x)
  assert len(found) == len(expected) == len(LAYERS)
  for layer, one, other in zip(LAYERS, found, expected):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=str(layer))


@pytest.mark.parametrize(
  "layer, told",
  [
    (nn.GELU(), r"applies `\w+` in 1: "),
    (nn.SiLU(), "applies `logistic` in 1: "),
    (nn.LayerNorm(8), r"applies `\w+` in 1: .*LayerNorm"),
    (nn.GroupNorm(2, 4), r"applies `\w+` in 1: .*GroupNorm"),
    (nn.Softmax2d(), "applies `exp` in 1: .*softmax"),
    (nn.Bilinear(8, 8, 3), "the module cannot be run on inputs of shape"),
    (
      nn.LPPool2d(2, 2),
      r"applies `\w+` in 1|aten.* in 1 is an operation of Py",
    ),
  ],
)
@pytest.mark.slow
def test_what_spikes_cannot_carry_is_named_with_its_layer(layer, told):
  module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.ReLU(), nn.Conv2d(4, 2, 1))
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.from_torch(module, torch.zeros(1, 3, 8, 8))
  assert "\n" not in str(raised.value)


X = torch.zeros(2, 4)


class Applying(nn.Module):
  """A layer, a function, and a ReLU."""

  def __init__(self, function, layer=None):
    super().__init__()
    self.layer, self.function = layer or nn.Linear(4, 4), function

  def forward(self, x):
    return torch.relu(self.function(self.layer(x)))


class Returning(Applying):
  """What the function returns."""

  def forward(self, x):
    return self.function(torch.relu(self.layer(x)))


class Remembering(nn.Module):
  """It answers with the mean of what it has seen so far."""

  def __init__(self):
    super().__init__()
    self.layer = nn.Linear(4, 4)
    self.register_buffer("seen", torch.zeros(4))
    self.register_buffer("calls", torch.zeros(()))

  def forward(self, x):
    self.calls += 1
    self.seen += x.mean(0)
    return torch.relu(self.layer(x - self.seen / self.calls))


class Answer:
  """What PyTorch knows nothing of."""


class Answering(nn.Linear):
  def __init__(self):
    super().__init__(4, 4)

  def forward(self, x):
    super().forward(x)
    return Answer()


def broken():
  layer = nn.Linear(4, 4)
  layer.weight.data[0] = float("nan")
  return layer


@pytest.mark.parametrize(
  "module, example, told",
  [
    (lambda: Applying(lambda x: nn.functional.dropout(x, 0.5)), X, r"\(test_torch.py:\d+\) is ran"),
    (lambda: Applying(lambda x: x * torch.rand_like(x).gt(0.5)), X, "aten.rand_like.* is random"),
    (
      lambda: Applying(nn.BatchNorm1d(4, track_running_stats=False)),
      X,
      r"in function \(.* takes stati",
    ),
    (lambda: Applying(lambda x: x if x.sum() > 0 else -x), X, "no choice.*weights or buffers"),
    (
      lambda: Applying(lambda x: x.div(2, rounding_mode="floor")),
      X,
      r"div.*\(test_torch.*in a form",
    ),
    (lambda: Applying(lambda x: x - x.max()), X, r"max.*\(test_torch.*in a form"),
    (lambda: Returning(lambda x: tuple(x.max(1))), X, "returns the places of maxima"),
    (lambda: Applying(torch.selu), X, "applies `exp"),
    (lambda: Remembering(), X, "changes its buffer (seen|calls) in each call"),
    (lambda: Applying(torch.neg, nn.Linear(4, 4, device="meta")), X, "^layer.weight .* on the dev"),
    (lambda: Applying(torch.neg, nn.LazyLinear(4)), X, "^layer.weight .* is lazy: call"),
    (lambda: Applying(torch.neg, broken()), X, "^layer.weight of the module is not finite"),
    (lambda: torch.jit.script(nn.Linear(4, 4)), X, "module is of TorchScript: give"),
    (lambda: Applying(torch.neg), X.to(torch.uint8), "cannot be run on .* torch.uint8: Runtime"),
    (lambda: nn.Conv2d(3, 4, 3), np.ones((1, 8, 8, 3), "f"), r"on inputs of shape \(3, 8, 8, 3\)"),
    (lambda: Applying(torch.neg), [X, "x"], r"example='x' must be a batch of inputs"),
    (lambda: Applying(torch.neg), None, r"example=None must be a batch of inputs"),
    (lambda: Applying(torch.neg), 3.0, r"example=3.0 must be a batch of inputs"),
    (lambda: Answering(), X, "the module returns a Answer: let it return a tensor"),
    (lambda: torch.relu, X, r"^module.* must be a torch.nn.Module"),
  ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is (deprecated|not supported)")
def test_what_is_not_for_inference_or_not_whole_is_told_in_one_line(module, example, told, capfd):
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.from_torch(module(), example)
  assert "\n" not in str(raised.value) and capfd.readouterr() == ("", "")


def test_a_form_in_jax_that_is_not_pytorchs_own_is_found(monkeypatch):
  monkeypatch.setitem(exported.OPERATIONS, "neg", lambda x: 1.01 * x)
  with pytest.raises(ValueError, match="JAX's form of the module differs from PyTorch"):
    tcljax.from_torch(Applying(torch.neg), jax.ShapeDtypeStruct((1, 4), np.float32))

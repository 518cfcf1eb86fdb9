"""Networks of PyTorch, as `torch.export` lists them, against PyTorch itself."""

import numpy as np
import pytest
import torch
from torch import nn

import tcljax


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
    (nn.Softmax2d(), "applies `reduce_max` in 1: .*softmax"),
    (nn.Bilinear(8, 8, 3), "torch.export cannot read the module on inputs of shape"),
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


def test_what_is_no_module_is_told():
  with pytest.raises(ValueError, match=r"module.* must be a torch.nn.Module"):
    tcljax.from_torch(torch.relu, torch.zeros(1, 3))

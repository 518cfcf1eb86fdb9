"""Networks of PyTorch: those of its tutorials and examples, and refused ones."""

import functools

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, as everybody writes it
from torch import nn

import tcljax
from zoo_networks import squeezenet, torch_vision
from zoo_networks.entry import Entry, Network, digits


class FashionMlp(nn.Module):
  """A flattened image through a stack of dense layers."""

  def __init__(self):
    super().__init__()
    self.flatten = nn.Flatten()
    self.linear_relu_stack = nn.Sequential(
      nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )

  def forward(self, x):
    return self.linear_relu_stack(self.flatten(x))


class LeNet(nn.Module):
  """ReLUs and poolings written as functions."""

  def __init__(self, channels=1):
    super().__init__()
    self.conv1, self.conv2 = nn.Conv2d(channels, 6, 5), nn.Conv2d(6, 16, 5)
    self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

  def forward(self, x):
    x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
    x = F.max_pool2d(F.relu(self.conv2(x)), 2)
    x = F.relu(self.fc1(torch.flatten(x, 1)))
    return self.fc3(F.relu(self.fc2(x)))


class Mnist(nn.Module):
  """The network of the MNIST example: dropout, and a log softmax at its end."""

  def __init__(self, size=28):
    super().__init__()
    self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
    self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
    self.fc1, self.fc2 = nn.Linear(64 * ((size - 4) // 2) ** 2, 128), nn.Linear(128, 10)

  def forward(self, x):
    x = F.relu(self.conv2(F.relu(self.conv1(x))))
    x = torch.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
    return F.log_softmax(self.fc2(self.dropout2(F.relu(self.fc1(x)))), dim=1)


class Dqn(nn.Module):
  """Values of two actions of four observations."""

  def __init__(self):
    super().__init__()
    self.layer1, self.layer2, self.layer3 = (
      nn.Linear(4, 128),
      nn.Linear(128, 128),
      nn.Linear(128, 2),
    )

  def forward(self, x):
    return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


def discriminator():
  """Leaky ReLUs, and a sigmoid at the end."""
  layers = [nn.Conv2d(3, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
  for width in (8, 16):
    layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width)]
    layers += [nn.LeakyReLU(0.2, inplace=True)]
  return nn.Sequential(*layers, nn.Conv2d(32, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def generator(last=nn.Tanh):
  """Transposed convolutions from noise to an image."""
  layers = []
  for before, after, stride, padding in ((10, 32, 1, 0), (32, 16, 2, 1), (16, 8, 2, 1)):
    layers += [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False)]
    layers += [nn.BatchNorm2d(after), nn.ReLU(True)]
  return nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), last())


class SuperResolution(nn.Module):
  """Convolutions, then channels become pixels."""

  def __init__(self):
    super().__init__()
    self.relu = nn.ReLU()
    self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, 1, 2), nn.Conv2d(32, 32, 3, 1, 1)
    self.conv3, self.conv4 = nn.Conv2d(32, 16, 3, 1, 1), nn.Conv2d(16, 9, 3, 1, 1)
    self.pixel_shuffle = nn.PixelShuffle(3)

  def forward(self, x):
    x = self.relu(self.conv2(self.relu(self.conv1(x))))
    return self.pixel_shuffle(self.conv4(self.relu(self.conv3(x))))


class Excitation(nn.Module):
  """Channels multiplied by a sigmoid of their means."""

  def __init__(self, width):
    super().__init__()
    self.squeeze, self.excite = nn.Linear(width, width // 2), nn.Linear(width // 2, width)

  def forward(self, x):
    gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
    return x * gate[:, :, None, None]


def gated():
  """A convolution and a gate."""
  layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), Excitation(8), nn.Flatten(), nn.Linear(288, 3)]
  return nn.Sequential(*layers)


def lively(module):
  """A module with weights that keep activations up, and BatchNorm that moves and scales."""
  torch.manual_seed(0)
  for one in module.modules():
    if isinstance(one, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
      nn.init.kaiming_normal_(one.weight)
      if one.bias is not None:
        nn.init.uniform_(one.bias, -0.1, 0.1)
    if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d)):
      one.running_mean.normal_(0, 0.2)
      one.running_var.uniform_(0.5, 2.0)
      nn.init.uniform_(one.weight, 0.5, 1.5)
      nn.init.normal_(one.bias, 0, 0.1)
  return module.eval()


def of(module, shape) -> Network:
  """A module in evaluation mode."""

  def answer(x):
    with torch.no_grad():
      return module(torch.from_numpy(x)).numpy()

  return Network(answer, lambda: tcljax.from_torch(module, torch.zeros(1, *shape)), shape)


def _random(make, shape):
  return of(lively(make()), shape)


def _trained():
  torch.manual_seed(0)
  module = Mnist(size=8)
  images, labels = digits()
  images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  labels = torch.from_numpy(labels.astype(np.int64))
  optimizer = torch.optim.Adam(module.parameters(), 2e-3)
  for batch in torch.randint(len(images), (150, 64)):
    optimizer.zero_grad()
    F.nll_loss(module(images[batch]), labels[batch]).backward()
    optimizer.step()
  return of(module.eval(), (1, 8, 8))


def _entry(name, make, shape, source="", refused=""):
  return Entry(name, "torch", functools.partial(_random, make, shape), source, refused)


def _attention():
  layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
  return nn.Sequential(layer, nn.Flatten(), nn.Linear(48, 3))


def _group_norm():
  layers = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten()
  return nn.Sequential(*layers, nn.Linear(8 * 36, 3))


NETWORKS = (
  _entry("FashionMNIST MLP", FashionMlp, (1, 28, 28), "PyTorch quickstart"),
  _entry("LeNet", LeNet, (1, 32, 32), "PyTorch tutorial on neural networks"),
  _entry("LeNet, CIFAR-10", lambda: LeNet(3), (3, 32, 32), "PyTorch tutorial on a classifier"),
  _entry("MNIST", Mnist, (1, 28, 28), "PyTorch example mnist"),
  _entry("DQN", Dqn, (4,), "PyTorch tutorial on reinforcement learning"),
  _entry("DCGAN discriminator", discriminator, (3, 32, 32), "PyTorch tutorial on DCGAN"),
  _entry(
    "DCGAN generator, no tanh",
    lambda: generator(nn.Identity),
    (10, 1, 1),
    "PyTorch tutorial on DCGAN",
  ),
  _entry("super-resolution", SuperResolution, (1, 16, 16), "PyTorch example super_resolution"),
  _entry("VGG-11", torch_vision.vgg11, (3, 32, 32), "torchvision"),
  _entry("ResNet-18", torch_vision.ResNet18, (3, 64, 64), "torchvision"),
  _entry("MobileNetV2", torch_vision.MobileNetV2, (3, 64, 64), "torchvision"),
  Entry(
    "SqueezeNet",
    "torch",
    lambda: of(squeezenet.in_torch(squeezenet.weights()).eval(), (3, 67, 67)),
    "torchvision",
    trained=squeezenet.are_there(),
  ),
  _entry("DenseNet", torch_vision.DenseNet, (3, 32, 32), "torchvision"),
  _entry("ShuffleNet", torch_vision.ShuffleNet, (3, 32, 32), "torchvision"),
  _entry("U-Net", torch_vision.UNet, (3, 32, 32), "PyTorch hub, mateuszbuda_brain-segmentation"),
  Entry("MNIST, digits", "torch", _trained, "PyTorch example mnist", trained=True),
  _entry("DCGAN generator", generator, (10, 1, 1), "PyTorch tutorial on DCGAN", "`tanh` in 10"),
  _entry(
    "transformer layer",
    _attention,
    (6, 8),
    "PyTorch tutorial on transformers",
    "applies .*self_attn",
  ),
  _entry("gated channels", gated, (3, 8, 8), "", "`logistic` in 2"),
  _entry("GroupNorm", _group_norm, (3, 8, 8), "", "in 1"),
)

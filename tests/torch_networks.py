"""Networks in PyTorch, in the names that people's checkpoints have."""

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


class TorchBlock(nn.Module):
  """A basic block in the names of torchvision, with either shortcut."""

  def __init__(self, c_in, c_out, stride, projection):
    super().__init__()
    self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(c_out)
    self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(c_out)
    self.stride, self.new = stride, c_out - c_in
    if stride > 1 and projection:
      self.downsample = nn.Sequential(
        nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
      )

  def forward(self, x):
    y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
    if hasattr(self, "downsample"):
      x = self.downsample(x)
    elif self.stride > 1:
      pad = (0, 0, 0, 0, self.new // 2, self.new - self.new // 2)
      x = nn.functional.pad(x[:, :, ::2, ::2], pad)
    return (x + y).relu()


class TorchResNet(nn.Module):
  """Two stages of one block each; the stem for ImageNet pools by averages or by maxima."""

  def __init__(self, imagenet, projection, maxima=False):
    super().__init__()
    self.conv1 = (
      nn.Conv2d(3, 4, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, 4, 3, 1, 1, bias=False)
    )
    self.bn1 = nn.BatchNorm2d(4)
    self.pool = nn.Identity()
    if imagenet:
      self.pool = (
        nn.MaxPool2d(3, 2, 1) if maxima else nn.AvgPool2d(3, 2, 1, count_include_pad=False)
      )
    self.layer1 = nn.Sequential(TorchBlock(4, 4, 1, projection))
    self.layer2 = nn.Sequential(TorchBlock(4, 8, 2, projection))
    self.fc = nn.Linear(8, 5)

  def forward(self, x):
    x = self.layer2(self.layer1(self.pool(self.bn1(self.conv1(x)).relu())))
    return self.fc(x.mean((2, 3)))


class TorchVGG(nn.Module):
  """Torchvision's layout: `features`, flattened channels first, `classifier` with dropout."""

  def __init__(self, batch_norm, stages=((4, 4), (6,)), pixels=4 * 4, pool=nn.AvgPool2d):
    super().__init__()
    layers, channels = [], 3
    for stage in stages:
      for width in stage:
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] * batch_norm + [nn.ReLU()]
        channels = width
      layers.append(pool(2))
    self.features = nn.Sequential(*layers)
    self.classifier = nn.Sequential(
      nn.Linear(channels * pixels, 8),
      nn.ReLU(),
      nn.Dropout(),
      nn.Linear(8, 7),
      nn.ReLU(),
      nn.Dropout(),
      nn.Linear(7, 5),
    )

  def forward(self, x):
    return self.classifier(self.features(x).flatten(1))


def randomised(net):
  """The network with statistics, scales and shifts that are not those of initialisation."""
  generator = torch.Generator().manual_seed(0)
  for name, value in net.state_dict().items():
    if value.dtype.is_floating_point and value.ndim == 1:
      value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name else 0.2))
  return net.eval()

"""Networks for images in PyTorch, in the style of torchvision."""

import torch
import torch.nn.functional as F  # noqa: N812, as everybody writes it
from torch import nn


def vgg11():
  """Convolutions of 3x3 and maxima, then dense layers with dropout."""
  layers, width = [], 3
  for after in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
    if after == "M":
      layers.append(nn.MaxPool2d(2, 2))
    else:
      layers += [nn.Conv2d(width, after, 3, padding=1), nn.ReLU(inplace=True)]
      width = after
  head = [nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(True)]
  head += [nn.Dropout(), nn.Linear(256, 256), nn.ReLU(True), nn.Dropout(), nn.Linear(256, 100)]
  return nn.Sequential(*layers, *head)


class BasicBlock(nn.Module):
  """Two convolutions, one ReLU module used twice."""

  def __init__(self, before, width, stride=1):
    super().__init__()
    self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.relu = nn.ReLU(inplace=True)
    self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.downsample = None
    if stride != 1 or before != width:
      conv = nn.Conv2d(before, width, 1, stride, bias=False)
      self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

  def forward(self, x):
    identity = x if self.downsample is None else self.downsample(x)
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    out += identity
    return self.relu(out)


class ResNet18(nn.Module):
  """Eight residual blocks."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    self.bn1, self.relu = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
    self.maxpool = nn.MaxPool2d(3, 2, 1)
    before, stages = 64, []
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
      stages.append(nn.Sequential(BasicBlock(before, width, stride), BasicBlock(width, width)))
      before = width
    self.layer1, self.layer2, self.layer3, self.layer4 = stages
    self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(512, 100)

  def forward(self, x):
    x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
    x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
    return self.fc(torch.flatten(self.avgpool(x), 1))


def _conv_norm(before, width, size=3, stride=1, groups=1):
  conv = nn.Conv2d(before, width, size, stride, size // 2, groups=groups, bias=False)
  return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
  """Widened, convolved channel by channel, and narrowed without an activation."""

  def __init__(self, before, width, stride, expand):
    super().__init__()
    inner = before * expand
    layers = [_conv_norm(before, inner, 1)] if expand != 1 else []
    layers += [_conv_norm(inner, inner, 3, stride, inner), nn.Conv2d(inner, width, 1, bias=False)]
    self.conv = nn.Sequential(*layers, nn.BatchNorm2d(width))
    self.use_res_connect = stride == 1 and before == width

  def forward(self, x):
    return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
  """Seventeen inverted residuals with ReLU6."""

  def __init__(self):
    super().__init__()
    before, features = 32, [_conv_norm(3, 32, 3, 2)]
    for t, c, n, s in (
      (1, 16, 1, 1),
      (6, 24, 2, 2),
      (6, 32, 3, 2),
      (6, 64, 4, 2),
      (6, 96, 3, 1),
      (6, 160, 3, 2),
      (6, 320, 1, 1),
    ):
      for i in range(n):
        features.append(InvertedResidual(before, c, s if i == 0 else 1, t))
        before = c
    self.features = nn.Sequential(*features, _conv_norm(320, 1280, 1))
    self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 100))

  def forward(self, x):
    x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
    return self.classifier(torch.flatten(x, 1))


class DenseLayer(nn.Module):
  """Normed and activated before its convolutions, and put beside what came in."""

  def __init__(self, before, growth):
    super().__init__()
    self.norm1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, 4 * growth, 1, bias=False)
    self.norm2 = nn.BatchNorm2d(4 * growth)
    self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

  def forward(self, x):
    y = self.conv1(F.relu(self.norm1(x)))
    return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class DenseNet(nn.Module):
  """Two dense blocks with a transition between."""

  def __init__(self):
    super().__init__()
    self.conv0, self.norm0 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
    self.block1 = nn.Sequential(*[DenseLayer(16 + 8 * i, 8) for i in range(3)])
    self.norm1, self.conv1 = nn.BatchNorm2d(40), nn.Conv2d(40, 20, 1, bias=False)
    self.block2 = nn.Sequential(*[DenseLayer(20 + 8 * i, 8) for i in range(3)])
    self.norm2, self.classifier = nn.BatchNorm2d(44), nn.Linear(44, 10)

  def forward(self, x):
    x = F.max_pool2d(F.relu(self.norm0(self.conv0(x))), 3, 2, 1)
    x = F.avg_pool2d(self.conv1(F.relu(self.norm1(self.block1(x)))), 2, 2)
    x = F.relu(self.norm2(self.block2(x)))
    return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class ShuffleUnit(nn.Module):
  """One half of the channels is convolved, then both are shuffled."""

  def __init__(self, width):
    super().__init__()
    half = width // 2
    self.branch2 = nn.Sequential(
      nn.Conv2d(half, half, 1, bias=False),
      nn.BatchNorm2d(half),
      nn.ReLU(inplace=True),
      nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
      nn.BatchNorm2d(half),
      nn.Conv2d(half, half, 1, bias=False),
      nn.BatchNorm2d(half),
      nn.ReLU(inplace=True),
    )

  def forward(self, x):
    a, b = x.chunk(2, dim=1)
    x = torch.cat((a, self.branch2(b)), dim=1)
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleNet(nn.Module):
  """Units of ShuffleNet V2."""

  def __init__(self):
    super().__init__()
    stem = [nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True)]
    self.conv1 = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))
    self.stage2 = nn.Sequential(*[ShuffleUnit(24) for _ in range(3)])
    self.fc = nn.Linear(24, 10)

  def forward(self, x):
    return self.fc(self.stage2(self.conv1(x)).mean([2, 3]))


def _twice(before, width):
  layers = []
  for n in (before, width):
    layers += [nn.Conv2d(n, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
  return nn.Sequential(*layers)


class UNet(nn.Module):
  """Two levels, and a map of logits."""

  def __init__(self):
    super().__init__()
    self.encoder1, self.encoder2, self.bottom = _twice(3, 8), _twice(8, 16), _twice(16, 32)
    self.pool = nn.MaxPool2d(2, 2)
    self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
    self.decoder2, self.decoder1 = _twice(32, 16), _twice(16, 8)
    self.conv = nn.Conv2d(8, 3, 1)

  def forward(self, x):
    a = self.encoder1(x)
    b = self.encoder2(self.pool(a))
    x = self.decoder2(torch.cat((self.up2(self.bottom(self.pool(b))), b), dim=1))
    return self.conv(self.decoder1(torch.cat((self.up1(x), a), dim=1)))

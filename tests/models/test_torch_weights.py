"""Import of state dicts: against PyTorch's own logits, and what is said of misfits."""

import pathlib
import re
import sys

import flax.linen
import jax
import numpy as np
import pytest
from real_data import RESNET20, needs_resnet20
from running import calibrate_plainly
from safetensors.numpy import save_file
from torch_networks import TorchResNet, TorchVGG, nn, randomised, torch

import tcljax
from tcljax.data import Preprocessing, load_dataset
from tcljax.models import VGG, ResNet, create_model
from tcljax.models.torch_weights import load_pretrained, read_state_dict

NETWORKS = [
  (lambda: TorchResNet(False, False), ResNet(num_classes=5, blocks=(1, 1), widths=(4, 8))),
  (
    lambda: TorchResNet(True, True),
    ResNet(num_classes=5, blocks=(1, 1), widths=(4, 8), shortcut="projection", stem="imagenet"),
  ),
  (
    lambda: TorchResNet(True, True, maxima=True),
    ResNet(
      num_classes=5,
      blocks=(1, 1),
      widths=(4, 8),
      shortcut="projection",
      stem="imagenet",
      pooling="gate",
    ),
  ),
  (lambda: TorchVGG(True), VGG(num_classes=5, stages=((4, 4), (6,)), dense=(8, 7))),
  (
    lambda: TorchVGG(False),
    VGG(num_classes=5, stages=((4, 4), (6,)), dense=(8, 7), batch_norm=False),
  ),
]


@pytest.mark.parametrize(
  "make, model", NETWORKS, ids=["option-a", "resnet34", "resnet34-maxima", "vgg-bn", "vgg"]
)
def test_logits_are_those_of_pytorch(tmp_path, rng, make, model):
  net = randomised(make())
  torch.save(net.state_dict(), tmp_path / "net.pth")
  variables = load_pretrained(tmp_path / "net.pth", model, (16, 16, 3))
  x = rng.normal(size=(4, 16, 16, 3)).astype(np.float32)
  with torch.inference_mode():
    expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
  np.testing.assert_allclose(model.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


# As torchvision lists them: widths and poolings, a sixteenth as wide.
TORCHVISION = {
  "vgg11": "4 M 8 M 16 16 M 32 32 M 32 32 M",
  "vgg13": "4 4 M 8 8 M 16 16 M 32 32 M 32 32 M",
  "vgg16": "4 4 M 8 8 M 16 16 16 M 32 32 32 M 32 32 32 M",
  "vgg19": "4 4 M 8 8 M 16 16 16 16 M 32 32 32 32 M 32 32 32 32 M",
}


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", TORCHVISION)
def test_vggs_with_maximum_pooling_give_the_logits_of_pytorch(tmp_path, rng, name, batch_norm):
  listed = TORCHVISION[name].removesuffix("M").split("M")
  stages = tuple(tuple(int(width) for width in stage.split()) for stage in listed)
  full = create_model(name, 5).stages
  assert stages == tuple(tuple(width // 16 for width in stage) for stage in full)
  torch.manual_seed(0)
  net = TorchVGG(batch_norm, stages, pixels=2 * 1, pool=nn.MaxPool2d).eval()
  for leaf, value in net.state_dict().items():  # by which even the deepest tells images apart
    if value.ndim > 1:
      nn.init.kaiming_normal_(value)
    elif value.dtype.is_floating_point:
      positive = leaf.endswith(("weight", "var"))
      nn.init.uniform_(value, *((0.8, 1.4) if positive else (-0.1, 0.1)))
  torch.save(net.state_dict(), tmp_path / "net.pth")
  x = rng.normal(size=(4, 64, 32, 3)).astype(np.float32)
  with torch.inference_mode():
    expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
  assert np.std(expected, axis=0).min() > 0.01
  model = create_model(name, 5, stages=stages, dense=(8, 7), batch_norm=batch_norm, pooling="gate")
  variables = load_pretrained(tmp_path / "net.pth", model, (64, 32, 3))
  for pooling in ("gate", "before"):
    logits = jax.jit(model.clone(pooling=pooling).apply)(variables, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def state():
  return {
    name: value.numpy()
    for name, value in randomised(TorchResNet(False, False)).state_dict().items()
    if not name.endswith("num_batches_tracked")
  }


def test_all_formats_and_wrappings_give_the_same(tmp_path, state):
  tensors = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
  np.savez(tmp_path / "a.npz", **state)
  save_file(state, tmp_path / "b.safetensors")
  torch.save(
    {"state_dict": {f"module.{name}": t for name, t in tensors.items()}, "epoch": 3},
    tmp_path / "c.th",
  )
  torch.save(
    {"model": {f"_orig_mod.{name}": nn.Parameter(t) for name, t in tensors.items()}},
    tmp_path / "d.pt",
  )
  old_names = {name.replace("fc.", "linear."): t for name, t in tensors.items()}
  torch.save(old_names | {"bn1.num_batches_tracked": torch.tensor(7)}, tmp_path / "e.pth")
  for path in sorted(tmp_path.iterdir()):
    found = read_state_dict(path)
    assert set(found) == set(state), path
    for name, value in found.items():
      assert value.dtype == np.float32
      np.testing.assert_array_equal(value, state[name])


def test_half_precision_is_read(tmp_path, state):
  halves = {name: torch.from_numpy(value.copy()).bfloat16() for name, value in state.items()}
  torch.save(halves, tmp_path / "a.pth")
  from safetensors.torch import save_file as save_tensors

  save_tensors(halves, tmp_path / "b.safetensors")
  one, two = (read_state_dict(tmp_path / name) for name in ("a.pth", "b.safetensors"))
  for name, value in one.items():
    np.testing.assert_array_equal(value, two[name])
    np.testing.assert_array_equal(value, halves[name].float().numpy())


def test_all_differences_are_listed_at_once(tmp_path, state):
  del state["layer1.0.bn1.weight"]
  state["fc.weight"] = np.zeros((9, 8), np.float32)
  state["fc.extra"] = np.zeros(3, np.float32)
  np.savez(tmp_path / "net.npz", **state)
  with pytest.raises(ValueError) as error:
    load_pretrained(tmp_path / "net.npz", NETWORKS[0][1], (16, 16, 3))
  assert sorted(str(error.value).partition(": ")[2].split("; ")) == [
    "fc.extra [3] has no place in the model",
    "fc.weight is [9, 8], the model's head/kernel wants [5, 8]",
    "layer1.0.bn1.weight [4] is missing",
  ]


def test_a_checkpoint_may_hold_code_but_it_is_not_run(tmp_path):
  class Trap:
    def __reduce__(self):
      return pathlib.Path.touch, (tmp_path / "ran",)

  torch.save({"state_dict": Trap()}, tmp_path / "net.pth")
  with pytest.raises(ValueError, match="cannot be read, it may be damaged: UnpicklingError"):
    read_state_dict(tmp_path / "net.pth")
  assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.npz", "net.safetensors"])
def test_damaged_files(tmp_path, name):
  (tmp_path / name).write_bytes(b"\x93not what the name says" * 20)
  with pytest.raises(ValueError, match=re.escape(name) + " cannot be read, it may be damaged"):
    read_state_dict(tmp_path / name)


def test_other_faults_of_a_file(tmp_path, state, monkeypatch):
  with pytest.raises(ValueError, match=r"net\.onnx is no checkpoint by its name: .* \.npz"):
    read_state_dict(tmp_path / "net.onnx")
  with pytest.raises(ValueError, match=r"nothing\.pth does not exist"):
    read_state_dict(tmp_path / "nothing.pth")
  torch.save({"epoch": 3}, tmp_path / "empty.pth")
  with pytest.raises(ValueError, match="holds no arrays by name"):
    read_state_dict(tmp_path / "empty.pth")
  torch.save([torch.zeros(2)], tmp_path / "list.pth")
  with pytest.raises(ValueError, match="holds no arrays by name"):
    read_state_dict(tmp_path / "list.pth")
  state["fc.bias"][2] = np.nan
  np.savez(tmp_path / "nan.npz", **state)
  with pytest.raises(ValueError, match=r"fc\.bias holds 1 NaN or infinite numbers of 5"):
    read_state_dict(tmp_path / "nan.npz")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"takes PyTorch to read: pip install torch,"):
    read_state_dict(tmp_path / "empty.pth")


@pytest.mark.parametrize(
  "bias, message",
  [
    (np.ones(10, np.complex64), r"of shape \(10,\) and type complex64: give real numbers"),
    (np.full(10, 1e300), r"1e\+300 does not fit into float32"),
    (np.full(10, "a"), r"type <U1: give real numbers"),
    (np.ones(10, "M8[s]"), r"type datetime64\[s\]: give real numbers"),
  ],
)
def test_arrays_that_are_no_weights_are_told_by_file_and_name(tmp_path, state, bias, message):
  np.savez(tmp_path / "net.npz", **{**state, "fc.bias": bias})
  with pytest.raises(ValueError, match=rf"net\.npz: fc\.bias\b.*{message}"):
    read_state_dict(tmp_path / "net.npz")
  if bias.dtype.kind == "c":
    torch.save({"fc.bias": torch.from_numpy(bias)}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net\.pth: fc\.bias\b.*{message}"):
      read_state_dict(tmp_path / "net.pth")


def test_models_that_weights_cannot_be_imported_into():
  with pytest.raises(ValueError, match="into ResNet and VGG, not into Dense"):
    load_pretrained("net.npz", flax.linen.Dense(3), (4,))


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.slow
@needs_resnet20
def test_the_real_resnet20_gives_its_known_logits():
  images = load_dataset("cifar10").test.images
  model = create_model("resnet20", 10)
  variables = load_pretrained(RESNET20, model, (32, 32, 3))
  logits = jax.jit(lambda x: model.apply(variables, IMAGENET(x)))(images[:200])
  expected = np.load(RESNET20.with_name("resnet20_cifar10_test_logits.npy"))[:200]
  np.testing.assert_allclose(logits, expected, atol=1e-3)


@pytest.mark.full
@needs_resnet20
def test_the_real_resnet20_ends_at_its_clipped_network():
  data, model = load_dataset("cifar10"), create_model("resnet20", 10)
  variables = load_pretrained(RESNET20, model, (32, 32, 3))
  variables = calibrate_plainly(model, variables, IMAGENET(data.train.images[:512]))
  network = tcljax.convert(model, variables, (32, 32, 3), tcljax.SpikingConfig(time_steps=1024))
  found = tcljax.evaluate(
    network.model,
    network.variables,
    data.test.images[:160],
    data.test.labels[:160],
    network.spiking,
    batch_size=80,
    preprocess=IMAGENET,
  )
  assert found.clipped > 85
  assert abs(found.snn[-1] - found.clipped) < 100 * 1.5 / 160, (found.snn[-1], found.clipped)
  assert found.snn[15] < found.clipped - 10  # untuned, it takes its time

"""The files in configs/ and the variants that presets make of them."""

import pytest
from running import ROOT, get_config

from tcljax.commands import train
from tcljax.runs import config_forms


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "configs").glob("*.py"))])
def test_configs_are_whole(name):
  config = get_config(name)
  assert config.name == name
  assert (
    f"python train.py --config=configs/{name}.py" in (ROOT / "configs" / f"{name}.py").read_text()
  )
  base = config_forms.parse(config_forms.base_config())
  assert config_forms.differences(base, config_forms.parse(config))


@pytest.mark.parametrize("name", ["cnn", "vgg16", "resnet18", "resnet20"])
def test_variants_of_configs(name):
  plain = get_config(name)
  config = get_config(name, "cifar100,joint")
  assert (config.name, config.data.name) == (f"{name}-cifar100-joint", "cifar100")
  assert config.joint.through == "snn" and config.snn.time_steps == 4 and config.tune.at == ()
  # Steps of one size destroy networks with small kernels.
  assert config.joint.optimizer.name == "lamb" and config.joint.optimizer.warmup_steps
  changed = {
    line.partition(":")[0]
    for line in config_forms.differences(*map(config_forms.parse, (plain, config)))
  }
  assert not {field for field in changed if field.startswith(("train.", "model.", "eval."))}
  config = get_config(name, "quantized")
  assert config.joint.through == "quantized" and config.snn.time_steps == 8
  assert config.joint.optimizer.name == "sgd" and config.joint.optimizer.learning_rate == 0.02
  config = get_config(name, "scratch")
  assert config.joint.start == "scratch" and config.joint.optimizer == config.train.optimizer
  with pytest.raises(ValueError, match="variant of the config='joined' is unknown"):
    get_config(name, "joined")


def test_the_argument_of_a_config_reaches_it(capsys):
  # It names a set that is not prepared, and a field that is given beside it still counts.
  status = train.main(
    [
      "train.py",
      f"--config={ROOT / 'configs/vgg16.py'}:cifar100",
      "--config.data.data_dir=/nowhere",
    ]
  )
  assert status == 2
  assert "data set 'cifar100' is not prepared in /nowhere" in capsys.readouterr().err
  assert train.main(["train.py", f"--config={ROOT / 'configs/vgg16.py'}:imagenet"]) == 2
  assert "'imagenet' is unknown: choose one of cifar100" in capsys.readouterr().err

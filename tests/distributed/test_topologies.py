"""TPU slices and GPUs that are not here: what is asked for them, and a plan where it can be had."""

import importlib.util
import os
import re
import subprocess
import sys

import jax
import pytest
from running import DIGITS, ROOT, TINY

from tcljax.distributed import topologies


def test_without_libtpu_it_says_how_to_have_it(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r"'v5e:4x4' .* libtpu, which is not installed: pip install"):
    topologies.devices_of("v5e:4x4")


def test_slices_that_there_are_not(monkeypatch):
  """Whatever libtpu's own complaint is. Variables that the user has set stay."""

  def refuse(platform, topology_name):
    raise RuntimeError("INVALID_ARGUMENT: no such thing\nat line 3")

  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  monkeypatch.setattr(topologies.topologies, "get_topology_desc", refuse)
  monkeypatch.setattr(jax.config, "update", lambda name, value: None)
  for variable in topologies._NO_TPU:
    monkeypatch.setenv(variable, "mine")
  with pytest.raises(ValueError, match=r"'v9:1x1' is no TPU slice .* such as v5e:4x4; for GPUs"):
    topologies.devices_of("v9:1x1")
  assert {os.environ[variable] for variable in topologies._NO_TPU} == {"mine"}


class _Topology:
  devices = ("the devices",)


def test_gpus_are_hosts_of_eight(monkeypatch):
  asked = []

  def describe(name, platform, *, target_config, topology):
    asked.append((platform, "H100" in target_config, topology))
    return _Topology

  monkeypatch.setattr(topologies.topologies, "get_topology_desc", describe)
  monkeypatch.setattr(jax.config, "update", lambda name, value: None)
  monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
  for name in ("h100", "H100:8", "h100:32"):
    assert topologies.devices_of(name) == _Topology.devices
  assert asked == [("cuda", True, shape) for shape in ("1x1x1", "1x1x8", "1x4x8")]
  for wrong in ("", "0", "12", "-1", "4x4", "8.0"):
    with pytest.raises(ValueError, match=f"'h100:{wrong}': '{wrong}' is no number .* h100:8"):
      topologies.devices_of(f"h100:{wrong}")


def test_gpus_that_nothing_here_compiles_for(monkeypatch):
  def refuse(*_, **__):
    raise RuntimeError("Unknown backend cuda\nand more")

  monkeypatch.setattr(topologies.topologies, "get_topology_desc", refuse)
  monkeypatch.setattr(jax.config, "update", lambda name, value: None)
  monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
  with pytest.raises(ValueError, match=r"pip install 'tcljax\[cuda\]' \(Unknown backend cuda\)$"):
    topologies.devices_of("h100:8")
  monkeypatch.setattr(jax, "__version_info__", (0, 11, 0))
  with pytest.raises(ValueError, match=r"'h100:8': JAX .* only where there is a GPU: plan"):
    topologies.devices_of("h100:8")


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install libtpu"
)
def test_a_plan_for_chips_that_are_not_here(tmp_path):
  """In a process of its own, as it must come before any use of a device."""
  argv = [sys.executable, str(ROOT / "train.py"), DIGITS, *TINY, "--plan=v5e:2x2"]
  # libtpu ends the process where it does not know an option of XLA for CPUs.
  own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  done = subprocess.run(argv, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert "digits on 4 x TPU v5e, 16.0 GiB each; a step of one device, memory in MiB:" in done.stdout
  [tuned] = re.findall(r"^ *tuned +6 +32 .*$", done.stdout, re.M)
  assert "all-reduce" in tuned and "ms and hours are a model" in done.stdout
  assert not done.stderr and not [*tmp_path.iterdir()]

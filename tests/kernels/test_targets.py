"""What is chosen for devices is chosen for those that programs are compiled for."""

import types

import jax
import pytest

from tcljax.data import Split
from tcljax.distributed import chips, memory, parallel
from tcljax.kernels import fire, targets
from tcljax.kernels.xla_options import saving_memory
from tcljax.maths.spikes import Neuron
from tcljax.training.feeds import fits_on_device


def chip(process, kind="TPU v5 lite"):
  return types.SimpleNamespace(platform="tpu", process_index=process, device_kind=kind)


def test_devices_at_hand_where_no_others_are_planned_for():
  assert targets.devices() == jax.devices() and targets.platform() == "cpu"
  assert targets.devices_of_a_host() == jax.local_devices() and targets.host_count() == 1
  assert not targets.is_planned()


def test_devices_that_are_not_here():
  there = [chip(process) for process in (0, 0, 1, 1)]
  with targets.planned_for(there):
    assert targets.is_planned() and targets.platform() == "tpu" and targets.host_count() == 2
    assert targets.devices() == tuple(there) and targets.devices_of_a_host() == there[:2]
    assert memory.of_a_device() == 16 * 2**30
    assert not fire.serves(8, Neuron())
    with pytest.raises(ValueError, match="batch_size=6 cannot be split over 4 devices"):
      parallel.check_batch_size("batch_size", 6)
    small = Split([[0]], [0])
    assert not fits_on_device(small)  # two hosts
  with targets.planned_for(there[:2]):
    assert fits_on_device(small)
  with targets.planned_for([chip(0, "TPU v99")]):
    assert memory.of_a_device() is None and not fits_on_device(small)
  assert not targets.is_planned()


def test_options_of_xla_are_those_of_the_platform():
  assert saving_memory()
  with targets.planned_for([chip(0)]):
    assert saving_memory() == {}
  assert saving_memory()


def test_chips_have_published_figures():
  v5e = chips.of_kind("TPU v5 lite")
  assert v5e and (v5e.name, v5e.operations, v5e.bandwidth) == ("TPU v5e", 197e12, 819e9)
  h100 = chips.of_kind("NVIDIA H100 80GB HBM3")
  assert h100 and (h100.name, h100.memory / 2**30) == ("H100", 59.25)  # three quarters of 79
  assert chips.of_kind("cpu") is None

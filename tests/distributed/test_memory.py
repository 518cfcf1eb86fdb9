"""How much memory a device has: what JAX says, or of CPUs what the host leaves a process."""

import os

import jax
import pytest

from tcljax.distributed import memory

PAGES, PAGE = 1000, 4096


@pytest.fixture
def host(tmp_path, monkeypatch):
  """A host of a thousand pages, whose control groups are files below `tmp_path`."""
  sizes = {"SC_PHYS_PAGES": PAGES, "SC_PAGE_SIZE": PAGE}
  monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
  monkeypatch.setattr(jax, "local_device_count", lambda: 2)
  monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
  monkeypatch.setattr(memory, "_LIMITS", tmp_path / "limits")
  return tmp_path


def _write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)


def test_cpus_share_the_host(host):
  assert memory.of_a_device() == PAGES * PAGE // 2


@pytest.mark.parametrize(
  ("groups", "limits"),
  [
    ("0::/\n", {"memory.max": "80000\n"}),
    ("0::/job/step\n", {"job/memory.max": "80000\n", "job/step/memory.max": "max\n"}),
    ("0::/job/step\n", {"job/memory.max": "90000\n", "job/step/memory.max": "80000\n"}),
    ("0::/elsewhere\n", {"memory.max": "80000\n"}),
    (
      "12:cpu:/\n5:hugetlb,memory:/job\n",
      {
        "memory/job/memory.limit_in_bytes": "80000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "job/memory.max": "10\n",  # of the other version
      },
    ),
  ],
)
def test_the_least_limit_of_control_groups_counts(host, groups, limits):
  _write(host / "cgroup", groups)
  for name, text in limits.items():
    _write(host / "limits" / name, text)
  assert memory.of_a_device() == 80000 // 2


def test_limits_above_the_hosts_memory_are_none(host):
  _write(host / "cgroup", "0::/\n")
  _write(host / "limits" / "memory.max", "99999999999\n")
  assert memory.of_a_device() == PAGES * PAGE // 2


def test_systems_that_do_not_say(monkeypatch):
  monkeypatch.delattr(os, "sysconf")
  assert memory.of_a_device() is None


@pytest.mark.parametrize(("told", "found"), [({"bytes_limit": 7}, 7), ({}, None), (None, None)])
def test_other_devices_say_it_themselves(monkeypatch, told, found):
  class Device:
    def memory_stats(self):
      return told

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  assert memory.of_a_device() == found

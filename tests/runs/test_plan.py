"""Plans: which phases they have, what is told of them, and that nothing is run or written."""

import dataclasses
import re

import jax
import pytest
from running import DIGITS, TINY, complaint

from tcljax.commands import train
from tcljax.distributed import chips
from tcljax.runs import config_forms, plan
from tcljax.runs.workdir import JOINT, TUNED
from tcljax.training.phase import Phase
from tcljax.training.programs import Program


def planned(monkeypatch, tmp_path, *flags):
  monkeypatch.chdir(tmp_path)
  status = train.main(["train.py", DIGITS, *TINY, *flags])
  assert not [*tmp_path.iterdir()]
  return status


@pytest.mark.slow
def test_a_plan_for_the_devices_at_hand(monkeypatch, tmp_path, capsys):
  assert planned(monkeypatch, tmp_path, "--plan") == 0
  told = capsys.readouterr().out
  assert re.search(
    r"digits on 8 x cpu, [\d.]+ GiB each; a step of one device, memory in MiB:", told
  )
  [ann, tuned] = re.findall(r"^ *(ann|tuned) +(\d+) +(\d+) +([\d.]+) +([\d.]+)", told, re.M)
  assert ann[:3] == ("ann", "40", "64") and tuned[:3] == ("tuned", "6", "32")
  assert "9 all-reduce" not in tuned and "does not fit" not in told
  assert "hours" not in told  # a CPU has no published figures


@pytest.mark.parametrize(
  "flags, names",
  [
    ([], ["ann", "tuned"]),
    (["--config.pretrained=nowhere"], ["tuned"]),
    (["--config.pretrained="], ["ann", "tuned"]),
    (
      [
        "--config.joint.through=clip",
        "--config.joint.start=scratch",
        "--config.joint.optimizer.name=sgd",
      ],
      ["joint", "tuned"],
    ),
    (["--config.joint.through=quantized"], ["ann", "joint", "tuned"]),
    (["--config.joint.through=snn"], ["ann", "tuned", "joint"]),
    (["--config.joint.through=clip", "--config.tune.steps=0"], ["ann", "joint"]),
  ],
)
def test_phases_come_as_a_run_has_them(monkeypatch, tmp_path, flags, names):
  """With the steps of the config, and what each begins with."""
  seen = []
  monkeypatch.setattr(plan, "tell", lambda found: seen.extend(plan.phases(found)))
  assert planned(monkeypatch, tmp_path, "--config.joint.steps=7", *flags, "--plan") == 0
  assert [phase.name for phase, _ in seen] == names
  for phase, variables in seen:
    assert phase.steps == {"ann": 40, "joint": 7, "tuned": 6}[phase.name]
    assert {*phase.optimizers} <= {*variables}
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables))


def test_plans_that_cannot_be(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(plan.topologies.importlib.util, "find_spec", lambda name: None)
  for given in (["--plan=v5e:4x4"], ["--plan", "v5e:4x4"]):
    assert planned(monkeypatch, tmp_path, *given) == 2
    told = complaint(capsys)
    assert "plan: 'v5e:4x4' is compiled for by the package libtpu" in told
    assert "pip install 'tcljax[tpu]'" in told
  assert planned(monkeypatch, tmp_path, "--plan", "--multihost") == 2
  assert "leave out --multihost" in complaint(capsys)
  assert planned(monkeypatch, tmp_path, "--plan", "--config.train.batch_size=12") == 2
  assert "train.batch_size=12 cannot be split over 8 devices" in complaint(capsys)


def test_sets_of_published_sizes_are_not_read(monkeypatch, tmp_path):
  """Batches are checked against them, though no image of theirs lies here."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  config = config_forms.base_config()
  config.data.name, config.data.image_size, config.data.validation = "imagenet2012", 64, 1000
  config.model.name = "cnn"
  dataset = plan.prepare(config_forms.parse(config)).experiment.dataset
  assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
    1_280_167,
    1000,
    50_000,
  ]
  assert dataset.num_classes == 1000 and dataset.test.image_shape == (64, 64, 3)
  for field, value, told in (
    ("image_size", 0, r"data\.image_size=0: .* set image_size"),
    ("validation", 1_281_167, r"data\.validation=1281167 must .* leave some of the 1281167"),
    ("train_split", "train[:10%]", "imagenet2012"),  # which only the set itself can count
  ):
    changed = config.copy_and_resolve_references()
    changed.data[field] = value
    with pytest.raises(ValueError, match=told):
      plan.prepare(config_forms.parse(changed))


GIB = 2**30
PROGRAM = Program(
  weights=3 * GIB,
  optimizer=2 * GIB,
  arrays=4 * GIB,
  operations=2e12,
  traffic=5e9,
  collectives={"all-reduce": (2, 300_000_000), "all-gather": (1, 100_000_000)},
  seconds=61.4,
)
CHIP = chips.Chip("TPU v0", 16 * GIB, operations=100e12, bandwidth=500e9, links=100e9)


def test_a_step_takes_what_its_slowest_part_does():
  """2e12 operations take 20 ms and 5e9 bytes 10 ms; of four chips 0.7e9 * 3 / 4 bytes 5.25 ms."""
  assert plan.modelled_seconds(PROGRAM, CHIP, 4) == pytest.approx(0.02525)
  moved = dataclasses.replace(PROGRAM, traffic=50e9)
  assert plan.modelled_seconds(moved, CHIP, 4) == pytest.approx(0.10525)
  assert plan.modelled_seconds(moved, CHIP, 1) == pytest.approx(0.1)


def test_what_does_not_fit_is_told_with_the_field_to_change():
  phases = [Phase(name, 3600, 64, lambda: None, {}) for name in (TUNED, JOINT)]
  found = [(phases[0], PROGRAM), (phases[1], dataclasses.replace(PROGRAM, arrays=20 * GIB))]
  told = plan.in_words("net on 4 x TPU v0", found, 4, CHIP, CHIP.memory)
  assert "net on 4 x TPU v0, 16.0 GiB each; a step of one device, memory in MiB:" in told
  row = next(line for line in told.splitlines() if line.lstrip().startswith("tuned"))
  assert row.split() == (
    "tuned 3600 64 3072.0 2048.0 4096 2000.0 5.00 1 all-gather, 2 all-reduce 25.25 0.03 61".split()
  )
  assert told.splitlines()[-1] == (
    "joint does not fit: it takes 25.0 of 16.0 GiB; raise joint.accumulate=1, lower "
    "joint.batch_size=64, or take more devices"
  )
  assert "does not fit" not in plan.in_words("net", found[:1], 4, None, None)

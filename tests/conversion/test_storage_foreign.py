"""Folders that somebody else wrote, or that were damaged: refused in one line, or the same bits."""

import foreign_folders
import mutations
import numpy as np
import pytest
from networks import everything

import tcljax


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """A folder that holds a network of every operation, and the bits of what it holds."""
  network, _ = everything(time_steps=6)
  return tcljax.save(network, tmp_path_factory.mktemp("base") / "net"), network


@pytest.mark.parametrize("mutation", [*mutations.SAID, *mutations.LAID])
def test_a_mutation_is_refused_in_one_line_or_loads_what_was_saved(base, mutation, tmp_path):
  """The first choices of each; the trial has all, and limits of time and memory."""
  folder, network = base
  for number in range(2):
    mutations.write(
      folder, tmp_path / str(number), mutation, number, False, np.random.default_rng(number)
    )
    try:
      loaded = tcljax.load(tmp_path / str(number))
    except ValueError as error:
      assert "\\n" not in str(error) and len(str(error)) < 1000
      continue
    assert (loaded.graph, loaded.spiking) == (network.graph, network.spiking)
    np.testing.assert_array_equal(
      loaded.variables["params"]["dense:1"]["kernel"],
      network.variables["params"]["dense:1"]["kernel"],
    )


@pytest.mark.parametrize(
  "mutation, number, message",
  [
    ("one_number", 0, "holds 1 NaN or infinite numbers of"),
    ("thresholds", 0, "has a threshold of 0, as raw_threshold=-87.5 is too far below 0"),
    ("thresholds", 1, "has a threshold of 0, as raw_threshold=-104 is too far below 0"),
    ("a_bias_that_broadcasts", 0, r"array 'params/.*/bias' has shape \(1,\) in place of \("),
    ("a_missing_array", 0, "the length of its header is not what its arrays leave"),
    ("a_missing_array", 4, "node '.*': its array 'kernel' is missing"),
    ("a_missing_array", 7, "array 'clipping/.*/v_init' is missing"),
    ("an_extra_array", 5, "array 'params/x/y' belongs to no node"),
    ("other_type", 1, "is of type 'float64' and must be float32"),
    ("a_length_of_the_header", 4, "the length of its header is not what its arrays leave"),
    ("offsets", 0, "its header says .* in place of"),
    ("an_edge", 2, "it reads '.*', which no node before it makes"),
    ("a_long_chain", 3, "it has 3.* nodes, and 2048 are the most"),
    ("a_name", 4, "activation 'IF_1' has no name of its own"),
    ("a_name", 1, "the name 'a/b' of a node is empty, too long, odd or used twice"),
    ("metadata", 3, "it has 1.* bytes, and 4194304 are the most"),
    ("grown", 2, "it has 3221225472 bytes, and 4194304 are the most"),
    ("grown", 5, "it has 3221225472 bytes, and the arrays listed take .* and a header"),
    ("a_text", 2, "it holds NaN, which is no number of JSON"),
    ("a_text", 0, "it names 'output' twice"),
    ("a_text", 4, "it holds a number that is too large: 1e999"),
    ("a_text", 10, "it nests more than 64 deep"),
    ("letters", 0, "it is not UTF-8 at byte 0"),
    ("no_file", 3, "it is not a regular file"),
    ("no_file", 6, "network.json: it is not a regular file"),
    ("no_file", 10, "weights.safetensors: "),
    ("a_link", 0, "network.json: it is not a regular file"),
    ("a_link", 6, "network.json: it is not JSON"),  # /proc/kmsg, which waits for the kernel
    ("foreign", 2, "weights.safetensors: "),
  ],
)
def test_even_with_new_checksums(base, mutation, number, message, tmp_path):
  mutations.write(base[0], tmp_path / "net", mutation, number, True, np.random.default_rng(0))
  with pytest.raises(ValueError, match=f"^spiking network .* cannot be read: .*{message}"):
    tcljax.load(tmp_path / "net")


@pytest.mark.parametrize("number", range(3))
def test_a_link_to_a_file_is_followed(base, number, tmp_path):
  mutations.write(base[0], tmp_path / "net", "a_link_to_the_file", number, False, None)
  assert tcljax.load(tmp_path / "net").graph == base[1].graph


@pytest.mark.slow
def test_of_650_foreign_folders_and_archives_each_is_refused_or_answers_the_same():
  found = foreign_folders.trial(seed=0)
  assert len(found) > 650
  assert [case for case in found if not foreign_folders.is_right(case)] == []
  assert sum(case["outcome"] == "refused" for case in found) > 550

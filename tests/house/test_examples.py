"""Each public name has an example in its docstring, and what the example prints is true."""

import doctest
import functools
import io

import pytest

import tcljax

# Sizes of `VGG` that have names. As partial functions they have no docstring of their own; the
# example of `VGG` shows them.
NAMED_SIZES = {"CNN", "VGG16"}


def run(name, thing):
  """Runs the example in the docstring of a public name as a user would, with nothing imported."""
  (example,) = doctest.DocTestFinder(recurse=False, exclude_empty=False).find(thing, name, globs={})
  assert example.examples, f"tcljax.{name} has no example in its docstring"
  report = io.StringIO()
  failed = doctest.DocTestRunner(verbose=False).run(example, out=report.write).failed
  assert not failed, report.getvalue()


@pytest.mark.parametrize("name", sorted(set(tcljax.__all__) - NAMED_SIZES))
def test_example(name):
  run(name, getattr(tcljax, name))


@pytest.mark.parametrize("name", sorted(NAMED_SIZES))
def test_only_partial_functions_go_without_an_example(name):
  assert isinstance(getattr(tcljax, name), functools.partial)


def test_a_missing_and_a_wrong_example_are_found():
  def bare():
    """Nothing to run."""

  def wrong():
    """Runs, and prints something else.

    >>> 1 + 1
    3
    """

  with pytest.raises(AssertionError, match=r"tcljax\.bare has no example"):
    run("bare", bare)
  with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
    run("wrong", wrong)

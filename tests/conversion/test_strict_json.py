"""JSON is read strictly, in time that grows with its length alone."""

import time

import numpy as np
import pytest

from tcljax.conversion.strict_json import LARGEST, from_json, to_json


@pytest.mark.parametrize(
  "raw, message",
  [
    (b'{"a": 1, "b": 2, "a": 1}', "it names 'a' twice"),
    (b"[NaN]", "it holds NaN, which is no number of JSON"),
    (b"[-Infinity]", "it holds -Infinity"),
    (b"[1e400]", "it holds a number that is too large: 1e400"),
    (b"\xff\xfe[\x00]\x00", "it is not UTF-8 at byte 0"),
    (b"\xef\xbb\xbf[]", "it is not JSON: "),
    (b"", "it is not JSON: "),
    (b"[" * 65 + b"]" * 65, "it nests more than 64 deep"),
    (b"[" * LARGEST, "it nests more than 64 deep"),
    (b" " * (LARGEST + 1), "it has 4194305 bytes, and 4194304 are the most"),
    (b"[" + b"9" * 5000 + b"]", "Exceeds the limit"),
    (b'"' + b'\\"' * 2**20, "it is not JSON: Unterminated string"),
    (b'"' * (2**21 + 1), "it is not JSON"),
  ],
)
def test_what_is_refused(raw, message):
  start = time.process_time()
  with pytest.raises(ValueError, match=message) as told:
    from_json(raw)
  assert "\n" not in str(told.value) and time.process_time() - start < 2


def test_what_is_read():
  assert from_json(b"[" * 64 + b"]" * 64)
  assert from_json(b'["[[[[\\"[' + b"[" * 100 + b'"]') == ['[[[["[' + "[" * 100]
  numbers = np.random.default_rng(0).normal(size=100).tolist()
  assert from_json(to_json(numbers).encode()) == numbers


@pytest.mark.parametrize("tree", [float("nan"), {1, 2}, b"a"])
def test_what_is_no_json_is_not_written(tree):
  with pytest.raises(ValueError, match="JSON"):
    to_json(tree)


def test_a_circle_is_not_written():
  circle = []
  circle.append(circle)
  with pytest.raises(ValueError, match="Circular"):
    to_json(circle)

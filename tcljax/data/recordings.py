"""Recordings of event cameras, read from their files.

N-MNIST's, AEDAT 3.1 and arrays of NumPy are read here. AEDAT 4 is compressed flatbuffers, which the
package `aedat` reads; it is an extra, imported once such a file is read.
"""

import importlib
import pathlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tcljax.data.events import Events
from tcljax.files import FileError, checked_path, why

# What an array may be called, by the field of `Events`; the first that is there counts.
_NAMES = {
  "x": ("x",),
  "y": ("y",),
  "timestamp": ("t", "timestamp", "ts"),
  "polarity": ("p", "polarity"),
}
_AEDAT_3, _AEDAT_4 = b"#!AER-DAT3.1", b"#!AER-DAT4.0"
_END_OF_HEADER = b"#!END-HEADER\r\n"
# Type, source, size of an event, offset of its time, overflow of times, capacity, number, valid.
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1  # the type of a packet
_MOST_HEADER = 1 << 24  # bytes of that of AEDAT 4
# A row of no pixel: N-MNIST's sign that the clock, of 13 bits in the camera, has gone round.
_OVERFLOW_ROW, _OVERFLOW = 240, 1 << 13


def read_events(path: str | pathlib.Path) -> Events:
  """Reads the events of a recording.

  Args:
    path: a file by whose end its form is known: ".bin" as N-MNIST and N-Caltech101 have it, five
      bytes an event; ".aedat" or ".aedat4" in the version 3.1, as DVS128 Gesture has it, or 4.0,
      which takes `pip install 'tcljax[events]'`; ".npz" with the arrays x, y, t (in microseconds)
      and p.

  Returns:
    All events of a polarity, in the order of their times.

  Raises:
    ValueError: in one line, if it is no such file, is cut off or damaged.
  """
  file = checked_path("path", path)
  readers = {".bin": _nmnist, ".aedat": _aedat, ".aedat4": _aedat, ".npz": _npz}
  read = readers.get(file.suffix.lower())
  if read is None:
    raise ValueError(f"path={str(file)!r} must end in one of {', '.join(readers)}")
  if not file.is_file():
    raise FileError(f"{file} cannot be read: there is no such file")
  try:
    return Events(*read(file))
  except OSError as error:
    raise FileError(f"{file} cannot be read: {error.strerror or why(error)}") from error
  except ValueError as error:
    raise FileError(f"{file} holds no recording that can be read: {why(error)}") from error


def _nmnist(file: pathlib.Path) -> tuple[np.ndarray, ...]:
  """Of five bytes: column, row, then a bit of polarity and 23 of microseconds, big-endian."""
  raw = np.frombuffer(file.read_bytes(), np.uint8)
  if len(raw) % 5:
    raise ValueError(f"its {len(raw)} bytes are no multiple of 5, the bytes of an event")
  columns, rows, first, second, third = raw.reshape(-1, 5).T.astype(np.int64)
  overflow = rows == _OVERFLOW_ROW
  times = ((first & 127) << 16 | second << 8 | third) + _OVERFLOW * np.cumsum(overflow)
  return tuple(a[~overflow] for a in (columns, rows, times, first >> 7))


def _aedat(file: pathlib.Path) -> tuple[np.ndarray, ...]:
  """Of the version that the first line names."""
  with file.open("rb") as stream:
    start = stream.read(len(_AEDAT_3))
  versions: dict[bytes, Callable[[pathlib.Path], Any]] = {_AEDAT_3: _aedat_3, _AEDAT_4: _aedat_4}
  if start not in versions:
    raise ValueError(f"it begins with {start!r} in place of {_AEDAT_3!r} or {_AEDAT_4!r}")
  return versions[start](file)


def _aedat_3(file: pathlib.Path) -> tuple[np.ndarray, ...]:
  """Of packets, those of polarity events; events that are marked as not valid are left out."""
  raw = file.read_bytes()
  place = raw.find(_END_OF_HEADER) + len(_END_OF_HEADER)
  if place < len(_END_OF_HEADER):
    raise ValueError(f"its header does not end with {_END_OF_HEADER!r}")
  found = [np.zeros((4, 0), np.int64)]
  while place < len(raw):
    if len(raw) - place < _PACKET.size:
      raise ValueError(f"it ends within the header of a packet, at byte {len(raw)}")
    kind, _, size, _, overflow, capacity, number, _ = _PACKET.unpack_from(raw, place)
    place += _PACKET.size
    if min(size, overflow) < 0 or not 0 <= number <= capacity or (kind == _POLARITY and size != 8):
      raise ValueError(f"the packet whose header ends at byte {place} has sizes that cannot be")
    if size * capacity > len(raw) - place:
      raise ValueError(f"it ends within the packet that begins at byte {place}")
    if kind == _POLARITY:
      data, times = np.frombuffer(raw, "<u4", 2 * number, place).reshape(-1, 2).T.astype(np.int64)
      columns, rows = data >> 17, data >> 2 & 0x7FFF
      packet = np.stack([columns, rows, times + (overflow << 31), data >> 1 & 1])
      found.append(packet[:, data & 1 == 1])
    place += size * capacity
  return tuple(np.concatenate(found, axis=1))


def _aedat_4(file: pathlib.Path) -> tuple[np.ndarray, ...]:
  try:
    aedat: Any = importlib.import_module("aedat")  # an extra
  except ImportError as error:
    raise ValueError("AEDAT 4 takes a package to read: pip install 'tcljax[events]'") from error
  _check_header_4(file)
  try:
    decoder = aedat.Decoder(str(file))
    streams = [i for i, stream in decoder.id_to_stream().items() if stream["type"] == "events"]
    packets = [packet["events"] for packet in decoder if packet["stream_id"] in streams]
  except BaseException as error:  # of any kind, as the package is another's, and in part in Rust
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
      raise
    raise ValueError(f"the package aedat says: {str(error).partition(chr(10))[0]}") from error
  if len(streams) != 1:
    raise ValueError(f"it has {len(streams)} streams of events, and one is read")
  if not packets:
    return tuple(np.zeros((4, 0), np.int64))
  events = np.concatenate(packets)
  return events["x"], events["y"], events["t"], events["on"]


def _check_header_4(file: pathlib.Path) -> None:
  """Raises ValueError if the header is cut off or its XML no text, at which `aedat` may abort."""
  with file.open("rb") as stream:
    stream.seek(len(_AEDAT_4) + 2)
    size = int.from_bytes(stream.read(4), "little")
    header = stream.read(min(size, _MOST_HEADER))
  text = header[header.find(b"<") : header.rfind(b">") + 1]
  try:
    whole = len(header) == size and header[4:8] == b"IOHE" and text.decode("utf-8")
  except UnicodeDecodeError:
    whole = False
  if not whole:
    raise ValueError(f"its header of {size} bytes is cut off or damaged")


def _npz(file: pathlib.Path) -> tuple[np.ndarray, ...]:
  if not zipfile.is_zipfile(file):
    raise ValueError("it is no archive of arrays, as numpy.savez writes it")
  try:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
      return tuple(_named(arrays, field) for field in _NAMES)
  except Exception as error:  # of many kinds, as archives can be damaged in many ways
    raise ValueError(why(error)) from error


def _named(arrays: Any, field: str) -> np.ndarray:
  for name in _NAMES[field]:
    if name in arrays.files:
      return arrays[name]
  raise ValueError(
    f"it has no array {' or '.join(_NAMES[field])}, only {', '.join(arrays.files) or 'none'}"
  )

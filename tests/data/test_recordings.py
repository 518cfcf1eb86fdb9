"""Recordings of event cameras: files written here by the specifications of their forms."""

import struct
import sys

import numpy as np
import pytest

from tcljax.data import read_events

EVENTS = [(1, 2, 10, 1), (3, 0, 20, 0), (127, 33, 8_000_000, 1), (0, 0, 8_000_001, 0)]


def nmnist(events):
  """Of each event 8 bits of column and of row, a bit of polarity and 23 of time, big-endian."""
  return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for x, y, t, p in events)


def packet_3(events, kind=1, overflow=0, more=0):
  """Of AEDAT 3.1; each event is valid bit, polarity, 15 bits of row and of column, then time."""
  head = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(events) + more, len(events), 0)
  rows = [struct.pack("<II", x << 17 | y << 2 | p << 1 | valid, t) for x, y, t, p, valid in events]
  return head + b"".join(rows) + bytes(max(0, 8 * more))


def aedat_3(*packets):
  return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + b"".join(packets)


def prefixed(buffer):
  return struct.pack("<I", len(buffer)) + buffer


def header_4(xml):
  """Flatbuffer IOHeader: no compression, no table of packets, and a description in XML."""
  table = struct.pack("<HHHHHxx", 10, 20, 12, 4, 16) + struct.pack("<iqiI", 12, -1, 0, 4)
  text = struct.pack("<I", len(xml)) + xml.encode() + b"\0"
  return prefixed(struct.pack("<I4s", 20, b"IOHE") + table + text)


def packet_4(events, stream=0):
  """Flatbuffer EventPacket: a vector of structures of 16 bytes."""
  table = struct.pack("<HHHxx", 6, 8, 4) + struct.pack("<iI4xI", 8, 8, len(events))
  rows = b"".join(struct.pack("<qhh?xxx", t, x, y, p) for x, y, t, p in events)
  data = prefixed(struct.pack("<I4s", 16, b"EVTS") + table + rows)
  return struct.pack("<ii", stream, len(data)) + data


def node(name, inner):
  return f'<node name="{name}" path="/{name}/">{inner}</node>'


def aedat_4(*packets, streams=1):
  text = lambda key, value: f'<attr key="{key}" type="string">{value}</attr>'
  number = lambda key, value: f'<attr key="{key}" type="int">{value}</attr>'
  names = ("compression", "originalModuleName", "originalOutputName", "typeDescription")
  about = "".join(text(key, "NONE") for key in names) + text("typeIdentifier", "EVTS")
  about += node("info", number("sizeX", 128) + number("sizeY", 128) + text("source", "here"))
  every = "".join(node(str(i), about) for i in range(streams))
  xml = f'<dv version="2.0">{node("outInfo", every)}</dv>'
  return b"#!AER-DAT4.0\r\n" + header_4(xml) + b"".join(packets)


def read(tmp_path, name, raw):
  (tmp_path / name).write_bytes(raw)
  return read_events(tmp_path / name)


def rows(events):
  fields = (events.x, events.y, events.timestamp, events.polarity)
  return [tuple(map(int, row)) for row in zip(*fields)]


def test_nmnist(tmp_path):
  assert rows(read(tmp_path, "a.bin", nmnist(EVENTS))) == EVENTS
  assert len(read(tmp_path, "a.bin", b"")) == 0
  # A row of 240 is no event: the clock has gone round, after 2^13 microseconds.
  round_once = nmnist([(1, 2, 10, 1), (0, 240, 0, 0), (3, 4, 5, 0)])
  assert rows(read(tmp_path, "a.bin", round_once)) == [(1, 2, 10, 1), (3, 4, 5 + 8192, 0)]


def test_aedat_3(tmp_path):
  valid = [(*event, 1) for event in EVENTS]
  raw = aedat_3(
    packet_3(valid[:1]),
    packet_3([(9, 9, 12, 1, 1)], kind=2),  # of frames, which are left out
    packet_3([valid[1], (5, 5, 21, 1, 0)], more=2),  # one that is not valid, and room for more
    packet_3(valid[2:]),
    packet_3([(4, 5, 6, 1, 1)], overflow=1),
  )
  assert rows(read(tmp_path, "a.aedat", raw)) == [*EVENTS, (4, 5, 6 + 2**31, 1)]
  assert len(read(tmp_path, "a.aedat", aedat_3())) == 0


def test_aedat_4(tmp_path):
  pytest.importorskip("aedat")
  raw = aedat_4(packet_4(EVENTS[:3]), packet_4(EVENTS[3:]))
  for name in ("a.aedat4", "a.aedat"):
    assert rows(read(tmp_path, name, raw)) == EVENTS
  assert len(read(tmp_path, "a.aedat4", aedat_4())) == 0
  with pytest.raises(ValueError, match=r"a.aedat4 holds no .* it has 2 streams of events, and one"):
    read(tmp_path, "a.aedat4", aedat_4(streams=2))
  # Whatever is cut off or changed ends in one line, or is not seen; a header that is no text would
  # end the process.
  rng = np.random.default_rng(0)
  for n in range(0, len(raw), 7):
    changed = bytearray(raw)
    changed[n] = rng.integers(256)
    for bad in (raw[:n], bytes(changed)):
      try:
        read(tmp_path, "a.aedat4", bad)
      except ValueError as error:
        assert "\n" not in str(error)


def test_aedat_4_without_the_package(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "aedat", None)
  with pytest.raises(ValueError, match=r"takes a package to read: pip install 'tcljax\[events\]'"):
    read(tmp_path, "a.aedat4", aedat_4())


def test_npz(tmp_path):
  x, y, t, p = np.array(EVENTS).T
  for names in (("x", "y", "t", "p"), ("x", "y", "timestamp", "polarity")):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (x.astype(np.uint16), y, t, p == 1))))
    assert rows(read_events(tmp_path / "a.npz")) == EVENTS
  np.savez(tmp_path / "b.npz", x=x, y=y, t=t)
  with pytest.raises(ValueError, match=r"b.npz holds no .* no array p or polarity, only x, y, t"):
    read_events(tmp_path / "b.npz")
  np.savez(tmp_path / "b.npz", x=x, y=y, t=t[::-1], p=p)
  with pytest.raises(ValueError, match=r"b.npz holds no .* timestamp=8000000 of event 1 is before"):
    read_events(tmp_path / "b.npz")
  np.savez(tmp_path / "b.npz", x=x.astype(object), y=y, t=t, p=p)
  with pytest.raises(ValueError, match=r"b.npz holds no recording that can be read: Object arrays"):
    read_events(str(tmp_path / "b.npz"))


GOOD = [(*EVENTS[0], 1)]
HEAD = len(aedat_3())


@pytest.mark.parametrize(
  ("name", "raw", "told"),
  [
    ("a.bin", b"1234567", "its 7 bytes are no multiple of 5"),
    ("a.aedat", b"#!AER-DAT2.0\r\n", "begins with b'#!AER-DAT2.0' in place of b'#!AER-DAT3.1' or"),
    ("a.aedat", b"", "it begins with b'' in place of"),
    ("a.aedat", b"#!AER-DAT3.1\r\n#", "its header does not end with b'#!END-HEADER"),
    ("a.aedat", aedat_3(packet_3(GOOD))[: HEAD + 20], "it ends within the header of a packet, at"),
    ("a.aedat", aedat_3(packet_3(GOOD))[:-1], "it ends within the packet that begins at byte"),
    ("a.aedat", aedat_3(packet_3(GOOD, more=-1)), "has sizes that cannot be"),
    ("a.aedat", aedat_3(packet_3(GOOD, overflow=-1)), "has sizes that cannot be"),
    ("a.npz", b"PK\3\4 and no more", "it is no archive of arrays, as numpy.savez writes it"),
    ("a.npz", b"", "it is no archive of arrays"),
  ],
)
def test_recordings_that_are_damaged_are_told(tmp_path, name, raw, told):
  with pytest.raises(
    ValueError, match=f"{name} holds no recording that can be read: .*{told}"
  ) as e:
    read(tmp_path, name, raw)
  assert "\n" not in str(e.value)


def test_files_that_are_none_are_told(tmp_path):
  with pytest.raises(ValueError, match=r"a.dat' must end in one of .bin, .aedat, .aedat4, .npz"):
    read(tmp_path, "a.dat", b"")
  (tmp_path / "b.bin").mkdir()
  for name in ("none.npz", "b.bin"):
    with pytest.raises(ValueError, match=f"{name} cannot be read: there is no such file"):
      read_events(tmp_path / name)
  with pytest.raises(ValueError, match="path=3 must be a path"):
    read_events(3)

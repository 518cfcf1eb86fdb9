"""Mutations of an archive of a network."""

import gzip
import io
import struct
import tarfile
import zipfile

from mutating import archive, packed

_DIRECTORY, _END = b"PK\x01\x02", b"PK\x05\x06"
# Where fields lie in an entry of the list at an archive's end, in an entry itself, and in its end.
_LISTED = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L")}
_LISTED |= {"size": (24, "<L"), "name": (28, "<H"), "extra": (30, "<H"), "offset": (42, "<L")}
_ENDS = {"disk": (4, "<H"), "count": (10, "<H"), "size": (12, "<L"), "offset": (16, "<L")}
_ENDS |= {"comment": (20, "<H")}


def changed(raw, at, form, value):
  raw = bytearray(raw)
  struct.pack_into(form, raw, at, value)
  return bytes(raw)


@packed(*["anywhere"] * 8, *["list"] * 8, *["end"] * 6)
def a_bit(entries, rng, choice):
  raw = bytearray(archive(entries))
  start = {"anywhere": 0, "list": raw.index(_DIRECTORY), "end": raw.rindex(_END)}[choice]
  raw[rng.integers(start, len(raw))] ^= 1 << rng.integers(8)
  return bytes(raw)


@packed(0, 1, 21, 22, 23, 100, 0.5, 0.99)
def cut_off(entries, rng, choice):
  raw = archive(entries)
  return raw[: int(len(raw) * choice) if isinstance(choice, float) else -choice or None]


@packed(b"\0", b"PK", b"\0" * 10**5, b"#!/bin/sh\n", _END + bytes(18), "itself")
def beside(entries, rng, choice):
  raw = archive(entries)
  extra = raw if choice == "itself" else choice
  return raw + extra if rng.integers(2) else extra + raw


@packed(*[(name, value) for name in _LISTED for value in (0, 1, 0xFFFF, 0xFFFFFFFF)])
def a_field_of_an_entry(entries, rng, choice):
  raw, (at, form) = archive(entries), _LISTED[choice[0]]
  value = choice[1] & (0xFFFF if form == "<H" else 0xFFFFFFFF)
  return changed(raw, raw.index(_DIRECTORY) + at, form, value)


@packed(*[(name, value) for name in _ENDS for value in (0, 1, 0xFFFF, 0xFFFFFFFF)])
def a_field_of_the_end(entries, rng, choice):
  raw, (at, form) = archive(entries), _ENDS[choice[0]]
  value = choice[1] & (0xFFFF if form == "<H" else 0xFFFFFFFF)
  return changed(raw, raw.rindex(_END) + at, form, value)


NAMES = ("../../x", "/etc/x", "net/network.json", "C:\\x", "..\\x", "network.json/", "NETWORK.JSON")


@packed(*NAMES, "network.json\0.py", "network.json ", " ", "é", "x" * 60000, "arrays.npz", "a\nb")
def a_name_in_it(entries, rng, choice):
  at = int(rng.integers(len(entries)))
  if rng.integers(2):
    return [*entries, (choice, b"x")]
  return [(choice if i == at else name, content) for i, (name, content) in enumerate(entries)]


@packed(zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
def compressed(entries, rng, choice):
  return archive(entries, choice)


@packed("weights.safetensors", "network.json", "step.stablehlo", "README.md", "x")
def a_bomb(entries, rng, choice):
  held = [(name, content) for name, content in entries if name != choice]
  return archive([*held, (choice, bytes(2**26))], zipfile.ZIP_DEFLATED)


@packed("list", "entry", "both", "strong")
def encrypted(entries, rng, choice):
  raw = archive(entries)
  flag = 0x41 if choice == "strong" else 1
  if choice != "entry":
    raw = changed(raw, raw.index(_DIRECTORY) + 8, "<H", flag)
  return raw if choice == "list" else changed(raw, 6, "<H", flag)


@packed(17, 1000, 65535)
def many(entries, rng, choice):
  return [*entries, *((f"{i}", b"") for i in range(choice))]


@packed("the same", "another", "first")
def twice(entries, rng, choice):
  name, content = entries[int(rng.integers(len(entries)))]
  again = (name, content if choice == "the same" else rng.bytes(len(content)))
  return [again, *entries] if choice == "first" else [*entries, again]


@packed(0o120777, 0o040755, 0o010644, 0o020644, 0o104777)
def a_kind(entries, rng, choice):
  """A link, a folder, a pipe, a device; and a program."""
  at, made = int(rng.integers(len(entries))), []
  for i, (name, content) in enumerate(entries):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (choice if i == at else 0o100644) << 16
    made.append((entry, b"/etc/passwd" if i == at and choice == 0o120777 else content))
  return made


@packed("one data", "itself")
def overlapping(entries, rng, choice):
  """Entries that begin where another does."""
  raw = archive(entries)
  first = raw.index(_DIRECTORY)
  second = raw.index(_DIRECTORY, first + 4)
  return changed(raw, second + 42, "<L", 0 if choice == "one data" else first)


@packed("tar", "gzip", "7z", "rar", "npz", "noise", "empty", "an archive in one", "safetensors")
def another_archive(entries, rng, choice):
  if choice == "tar":
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
      for name, content in entries:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        opened.addfile(entry, io.BytesIO(content))
    return made.getvalue()
  return {
    "gzip": lambda: gzip.compress(archive(entries)),
    "7z": lambda: b"7z\xbc\xaf\x27\x1c" + rng.bytes(999),
    "rar": lambda: b"Rar!\x1a\x07\x01\x00" + rng.bytes(999),
    "npz": lambda: archive([("a.npy", b"\x93NUMPY" + rng.bytes(99))]),
    "noise": lambda: rng.bytes(4096),
    "empty": lambda: archive([]),
    "an archive in one": lambda: archive([("net.zip", archive(entries))]),
    "safetensors": lambda: dict(entries)["weights.safetensors"],
  }[choice]()

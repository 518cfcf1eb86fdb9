"""Mutations of the files as they lie on the disk."""

import io
import os
import pickle
import socket
import zipfile

from mutating import DESCRIPTION, laid, one

from tcljax.conversion.description import STEP, WEIGHTS


def changed(path, change):
  path.write_bytes(change(path.read_bytes()))


@laid(*[DESCRIPTION, WEIGHTS, STEP] * 5)
def a_bit(folder, rng, choice):
  def flip(raw):
    raw = bytearray(raw)
    raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    return bytes(raw)

  changed(folder / choice, flip)


@laid(*[DESCRIPTION, WEIGHTS, STEP] * 3)
def cut_off(folder, rng, choice):
  changed(folder / choice, lambda raw: raw[: one(rng, (0, 1, 7, 8, 9, len(raw) // 2, -1))])


@laid(*[(name, end) for name in (DESCRIPTION, WEIGHTS) for end in (b"\0", b" ", b"}", b"\0" * 999)])
def appended(folder, rng, choice):
  changed(folder / choice[0], lambda raw: raw + choice[1])


@laid(
  *[(name, size) for name in (DESCRIPTION, WEIGHTS, STEP) for size in (2**24, 2**30, 3 * 2**30)]
)
def grown(folder, rng, choice):
  os.truncate(folder / choice[0], choice[1])  # with zeros that take no place


TEXTS = (
  lambda text: text.replace('"format"', '"output": "x", "format"', 1),
  lambda text: text.replace('"name"', '"name": "x", "name"', 1),
  lambda text: text.replace('"width": 1.0', '"width": NaN'),
  lambda text: text.replace('"width": 1.0', '"width": Infinity'),
  lambda text: text.replace('"width": 1.0', '"width": 1e999'),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": NaN, '),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": 1, "x": 1, '),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "1" * 5000 + ", "),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "[" * 5000 + "]" * 5000 + ", "),
  lambda text: text.replace('"metadata": {', '"metadata": {"x": ' + "[" * 10**6),
  lambda text: "[" * 10**6,
  lambda text: '{"a":' * 10**5,
  lambda text: "[" + "[]," * (4 * 10**5) + "[]]",
  lambda text: '"' + '\\"' * 10**6,
  lambda text: "null",
  lambda text: "[]",
  lambda text: "4",
  lambda text: "// a comment\n" + text,
  lambda text: text.replace(",", ",\n\n"),
)


@laid(*TEXTS)
def a_text(folder, rng, choice):
  changed(folder / DESCRIPTION, lambda raw: choice(raw.decode()).encode())


@laid("utf-16", "utf-8-sig", "utf-32", b"\xff\xfe", b"\x80")
def letters(folder, rng, choice):
  if isinstance(choice, str):
    changed(folder / DESCRIPTION, lambda raw: raw.decode().encode(choice))
  else:
    changed(folder / DESCRIPTION, lambda raw: raw.replace(b'"metadata": {', b'"' + choice, 1))


@laid(*[(name, way) for way in ("missing", "directory", "pipe", "socket") for name in (0, 1, 2)])
def no_file(folder, rng, choice):
  path = folder / (DESCRIPTION, WEIGHTS, STEP)[choice[0]]
  path.unlink()
  if choice[1] == "directory":
    path.mkdir()
  elif choice[1] == "pipe":
    os.mkfifo(path)
  elif choice[1] == "socket":
    before = os.getcwd()
    os.chdir(folder)  # as the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
      made.bind(path.name)
    os.chdir(before)


LINKS = ("/dev/zero", "/dev/random", "/dev/full", "/dev/null", "/dev/tty", "/proc/self/mem")


@laid(
  *[
    (i % 3, to)
    for i, to in enumerate([*LINKS, "/proc/kmsg", "/etc/passwd", "loop", ".", "nowhere"])
  ]
)
def a_link(folder, rng, choice):
  path = folder / (DESCRIPTION, WEIGHTS, STEP)[choice[0]]
  path.unlink()
  path.symlink_to(path.name if choice[1] == "loop" else choice[1])


@laid(DESCRIPTION, WEIGHTS, STEP)
def a_link_to_the_file(folder, rng, choice):
  (folder / choice).rename(folder / "elsewhere")
  (folder / choice).symlink_to("elsewhere")


class Executed:
  """Ends the process that unpickles it, which the trial sees."""

  def __reduce__(self):
    return os._exit, (1,)


def archive(encrypted=False, large=0):
  """A zip, marked as encrypted, or with an entry that unpacks to many times its size."""
  made = io.BytesIO()
  with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
    opened.writestr("../../a.npy", b"\0" * (large or 100))
  raw = bytearray(made.getvalue())
  if encrypted:
    raw[6] |= 1
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
  return bytes(raw)


@laid("zip", "encrypted", "bomb", "pickle", "noise", "gzip", "elf", "npz beside")
def foreign(folder, rng, choice):
  made = {
    "zip": archive,
    "encrypted": lambda: archive(encrypted=True),
    "bomb": lambda: archive(large=2**26),
    "pickle": lambda: pickle.dumps(Executed()),
    "noise": lambda: rng.bytes(4096),
    "gzip": lambda: b"\x1f\x8b\x08" + rng.bytes(100),
    "elf": lambda: b"\x7fELF" + rng.bytes(4096),
    "npz beside": lambda: archive(large=2**26),
  }[choice]()
  (folder / ("arrays.npz" if choice == "npz beside" else WEIGHTS)).write_bytes(made)

"""Images per second of the streamed input, beside a bare loop over the same files.

    python benchmarks/input.py

Makes JPEG files of about 500x400 pixels and 100 kB with the spectrum of photographs, and the same
ones as a TFDS set. Ours is `tcljax.data.training_batches` as a run uses it: shuffled, random crops
of 224x224, batches in the main process. The bare loop is a multiprocessing pool of as many
processes that reads a file, decodes and crops it with the same function, and hands nothing back.
The two take turns; starting the processes is not counted. Wants an otherwise idle machine.

Writes OUTPUT.json and .md.
"""

import functools
import io
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from ledger import ROOT, Ledger, command_of, parser
from PIL import Image

from tcljax.data import decoding, load_dataset, training_batches
from tcljax.data.streaming import AUTOMATIC, resolve_workers

SHAPE = (224, 224, 3)
_SIZES = ((500, 375), (500, 400), (375, 500), (500, 333), (480, 400))  # width, height
_QUALITY = 85


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "input")
  flags.add_argument("--images", type=int, default=600, help="files, and images a round")
  flags.add_argument("--rounds", type=int, default=7, help="of each of the two")
  flags.add_argument("--workers", type=int, default=AUTOMATIC, help="processes; -1: one a core")
  flags.add_argument("--batch_size", type=int, default=64)
  args = flags.parse_args(argv)
  workers = resolve_workers(args.workers)
  if min(args.images, args.rounds, args.batch_size, workers) < 1:
    flags.error("--images, --rounds, --batch_size and --workers must be at least 1")
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    paths = make_files(folder, args.images)
    split = load_dataset(
      "photos",
      str(folder),
      test_split="validation",
      image_size=SHAPE[0],
      stream=True,
      workers=workers,
    ).train
    rates = {"tcljax": [], "bare loop": []}
    for number in range(args.rounds):
      rates["tcljax"].append(ours(split, args.batch_size, args.images))
      rates["bare loop"].append(bare(paths, workers))
      print(
        f"round {number + 1}: "
        + ", ".join(f"{name} {values[-1]:.0f} images/s" for name, values in rates.items()),
        flush=True,
      )
    size = statistics.mean(path.stat().st_size for path in paths)
  ledger = Ledger(args.output, command_of("input", flags, args), markdown)
  rows, of_both = summary(rates)
  ledger.add(rows)
  ledger.shared = {
    "workers": workers,
    "batch_size": args.batch_size,
    "images": args.images,
    "mean_kilobytes": round(size / 1000, 1),
    **of_both,
  }
  ledger.write()
  return 0


def make_files(folder, count):
  """Paths of JPEG files; the same ones lie in `folder` as the TFDS set "photos"."""
  sys.path.insert(0, str(ROOT / "tests"))
  from jpeg_sets import NUM_CLASSES, write_files

  examples = []
  for i in range(count):
    data = photograph(i)
    (folder / f"{i:05}.jpg").write_bytes(data)
    examples.append((data, i % NUM_CLASSES, f"{i:05}.jpg"))
  write_files(folder, "photos", {"train": examples, "validation": examples[:2]})
  return sorted(folder.glob("*.jpg"))


def photograph(number):
  """A JPEG file whose amplitudes fall as 1/frequency, as those of photographs do on average."""
  width, height = _SIZES[number % len(_SIZES)]
  rng = np.random.default_rng(number)
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
  frequency[0, 0] = np.inf  # no mean
  planes = np.fft.irfft2(
    np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency, s=(height, width)
  )
  planes /= planes.std(axis=(1, 2), keepdims=True)
  pixels = np.moveaxis(planes, 0, -1) * (50, 15, 15) + 128  # luminance, and colours that vary less
  file = io.BytesIO()
  Image.fromarray(np.uint8(pixels.clip(0, 255)), "YCbCr").save(file, "JPEG", quality=_QUALITY)
  return file.getvalue()


def ours(split, batch_size, images):
  """Images per second that arrive in this process."""
  workers = split.workers
  steps = workers * -(-images // (batch_size * workers))  # each worker makes as many batches
  batches = training_batches(split, batch_size, seed=0)
  try:
    for _ in range(2 * workers):
      next(batches)
    start = time.perf_counter()
    for _ in range(steps):
      next(batches)
    return steps * batch_size / (time.perf_counter() - start)
  finally:
    batches.close()


def bare(paths, workers):
  """Images per second that the processes of a pool read, decode and crop."""
  with multiprocessing.get_context("spawn").Pool(workers) as pool:
    pool.map(_read_and_decode, paths[: 8 * workers], chunksize=1)
    start = time.perf_counter()
    pool.map(_read_and_decode, paths, chunksize=8)
    return len(paths) / (time.perf_counter() - start)


def _read_and_decode(path):
  box = functools.partial(decoding.random_box, np.random.default_rng(int(path.stem)))
  decoding.decode(path.read_bytes(), box, SHAPE)


def summary(rates):
  """The two rows, and what they share: their ratio."""
  medians = {name: statistics.median(values) for name, values in rates.items()}
  rows = [
    {
      "system": name,
      "median": round(medians[name], 1),
      "lowest": round(min(values), 1),
      "highest": round(max(values), 1),
      "rounds": len(values),
    }
    for name, values in rates.items()
  ]
  return rows, {"ratio": round(medians["tcljax"] / medians["bare loop"], 3)}


def markdown(found):
  """The table."""
  lines = [
    "# Streamed input",
    "",
    f"Images per second: {found['images']} JPEG files of about 500x400 pixels and "
    f"{found['mean_kilobytes']:.0f} kB, decoded and cropped at random to 224x224 by "
    f"{found['workers']} processes.",
    "",
    "| | median | lowest | highest | rounds |",
    "|---|---|---|---|---|",
  ]
  lines += [
    f"| {row['system']} | {row['median']:.0f} | {row['lowest']:.0f} | {row['highest']:.0f} "
    f"| {row['rounds']} |"
    for row in found["rows"]
  ]
  lines += ["", f"tcljax has {found['ratio']:.2f} of the bare loop."]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())

"""Data sets, batches and preprocessing."""

from tcljax.data.augment import Preprocessing
from tcljax.data.batches import evaluation_batches, first_examples, first_images, training_batches
from tcljax.data.decoding import BadExample, UnreadableImage
from tcljax.data.events import Events, frames_by_count, frames_by_time
from tcljax.data.recordings import read_events
from tcljax.data.sources import Dataset, load_dataset
from tcljax.data.splits import Examples, Split
from tcljax.data.streaming import StreamedSplit

__all__ = [
  "BadExample",
  "Dataset",
  "Events",
  "Examples",
  "Preprocessing",
  "Split",
  "StreamedSplit",
  "UnreadableImage",
  "evaluation_batches",
  "first_examples",
  "first_images",
  "frames_by_count",
  "frames_by_time",
  "load_dataset",
  "read_events",
  "training_batches",
]

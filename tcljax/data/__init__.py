"""Data sets, batches and preprocessing."""

from tcljax.data.augment import Preprocessing
from tcljax.data.batches import evaluation_batches, first_images, training_batches
from tcljax.data.decoding import BadExample, UnreadableImage
from tcljax.data.sources import Dataset, load_dataset
from tcljax.data.splits import Examples, Split
from tcljax.data.streaming import StreamedSplit

__all__ = [
  "BadExample",
  "Dataset",
  "Examples",
  "Preprocessing",
  "Split",
  "StreamedSplit",
  "UnreadableImage",
  "evaluation_batches",
  "first_images",
  "load_dataset",
  "training_batches",
]

"""Data sets, batches and preprocessing."""

from tcljax.data.augment import Preprocessing
from tcljax.data.batches import evaluation_batches, training_batches
from tcljax.data.sources import Dataset, Split, load_dataset

__all__ = ["Dataset", "Preprocessing", "Split", "evaluation_batches", "load_dataset",
           "training_batches"]

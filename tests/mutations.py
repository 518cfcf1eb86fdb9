"""All mutations of a folder, by name: those of each module that registers some."""

import mutated_arrays
import mutated_descriptions
import mutated_files
from mutating import LAID, SAID, write

REGISTERED_BY = (mutated_arrays, mutated_descriptions, mutated_files)

__all__ = ["LAID", "SAID", "write"]

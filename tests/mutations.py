"""All mutations, by name: those of each module that registers some."""

import mutated_archives
import mutated_arrays
import mutated_descriptions
import mutated_files
from mutating import LAID, PACKED, SAID, pack, write, write_packed

REGISTERED_BY = (mutated_archives, mutated_arrays, mutated_descriptions, mutated_files)

__all__ = ["LAID", "PACKED", "SAID", "pack", "write", "write_packed"]

"""Converts a trained network into a spiking one on disk; see `tcljax.commands.convert`."""

import sys

from tcljax.commands.convert import main

if __name__ == "__main__":
  sys.exit(main())

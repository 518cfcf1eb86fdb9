"""Trains a network and the thresholds of its spiking twin; see `tcljax.commands.train`."""

import sys

from tcljax.commands.train import main

if __name__ == "__main__":
  sys.exit(main())

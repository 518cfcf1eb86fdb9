"""How thresholds and weights are found: calibration, objectives, the training loop."""

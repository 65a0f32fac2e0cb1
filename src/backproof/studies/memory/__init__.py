"""The memory of a training step: recorded, predicted, planned, measured."""

"""Training: a plain loop whose every draw comes from a seed, with schedule, validation and a checkpoint that resumes."""

from .history import History
from .loop import train

__all__ = ["History", "train"]

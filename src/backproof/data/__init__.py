"""Pictures and other samples: read from files that may be damaged, placed on a canvas, drawn anew every epoch."""

from .pictures import Pictures, digits, pictures
from .samples import Samples, samples_of

__all__ = ["Pictures", "Samples", "digits", "pictures", "samples_of"]

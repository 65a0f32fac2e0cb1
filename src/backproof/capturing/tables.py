"""Every module of lowerings, imported for what it registers."""

from . import (
    lower_algebra,
    lower_bags,
    lower_complex,
    lower_images,
    lower_indexing,
    lower_layers,
    lower_losses,
    lower_made,
    lower_memory,
    lower_parametrised,
    lower_random,
    lower_recurrent,
)

__all__: list[str] = []

_ = (lower_algebra, lower_bags, lower_complex, lower_images, lower_indexing, lower_layers, lower_losses, lower_made)
__ = (lower_memory, lower_parametrised, lower_random, lower_recurrent)

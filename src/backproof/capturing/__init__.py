"""From a torch model to a Graph, with the user's own names, module paths and source lines."""

from .module import capture

__all__ = ["capture"]

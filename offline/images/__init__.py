"""Container images made from packages, for machines that reach no image registry."""

from offline.images.build import ensure_images

__all__ = ["ensure_images"]

"""Limits of bodies: those of every HTTP process."""

from perdure.web.limits import BodyLimit, require_media, too_large

__all__ = ["BodyLimit", "require_media", "too_large"]

"""Serving: models that answer requests."""

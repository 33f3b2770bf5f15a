"""Durable workflows for the life of machine-learning models, on Temporal."""

__version__ = "0.1.0"

"""Spam among text messages: the owner's part of the example."""

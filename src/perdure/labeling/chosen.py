"""Why people are asked about something: ``chosen`` of a task's prediction."""

RANDOM = "random"
"""Chance drew it: what is so chosen is like the rest, and may be tested on."""
UNSURE = "unsure"
"""A model was not sure of it."""
FLAGGED = "flagged"
"""A user says that the prediction is wrong."""

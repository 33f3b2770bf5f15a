"""Processes beside a benchmark that ask its servers; they import little, so that they start at once."""

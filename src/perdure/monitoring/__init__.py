"""Drift as pure values: statistics of counts, references, findings, reports. No server is needed to test any of it."""

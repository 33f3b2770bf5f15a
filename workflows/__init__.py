"""Workflows: deterministic, they read results and decide. Data never passes through them; references do."""

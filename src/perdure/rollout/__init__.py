"""Rollout: what is decided between an approval and a release, and after a release that was a mistake."""

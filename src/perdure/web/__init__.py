"""What all HTTP processes share: problem documents, limits of bodies, and who calls."""

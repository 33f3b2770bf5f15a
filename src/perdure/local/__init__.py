"""The whole stack on one machine, without Docker and without root: servers found or built, started, watched and stopped."""

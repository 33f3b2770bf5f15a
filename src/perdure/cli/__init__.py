"""The command line: thin commands over Temporal's updates and the rows in Postgres. Nothing imports it."""

"""Everything about rows: tables, migrations, and the repository that holds every SQL statement."""

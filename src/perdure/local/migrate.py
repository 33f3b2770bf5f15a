"""``python -m perdure.local.migrate``: bring the database that the settings name to this code's schema, in a process of its own."""

from perdure.config import Settings
from perdure.metadata.upgrade import upgrade

if __name__ == "__main__":
    upgrade(Settings())

"""One module per revision: ``YYYYMMDD_<revision>_<what>.py``."""

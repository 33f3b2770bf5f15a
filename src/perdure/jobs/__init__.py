"""All data code and every call of the owner's code: runs in processes of its own, knows neither Temporal nor Postgres."""

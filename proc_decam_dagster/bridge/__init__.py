"""Between the two faces: what the terminal asks of Dagster, and what it tells it."""

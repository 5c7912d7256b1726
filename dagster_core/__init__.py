"""The team's Dagster project: the time zones of the world, in a warehouse."""

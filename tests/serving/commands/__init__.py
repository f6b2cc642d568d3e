"""Mirror of serving/commands."""

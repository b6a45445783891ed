"""The `tagstream` executable: one module per group of commands."""

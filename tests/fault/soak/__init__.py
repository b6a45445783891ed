"""`make soak HOURS=n`: hours of steady load with swaps, model switches and restarts, and nothing may grow."""

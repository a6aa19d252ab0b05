"""A random walk through everything that can happen to schedules, runs, workers and messages, beside a small model."""

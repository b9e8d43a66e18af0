"""What sled and gateway share about writing durably: one thread that commits, and SQLite's settings."""

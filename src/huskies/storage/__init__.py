"""What sled and gateway share about writing durably: a thread that commits, SQLite's settings, files."""

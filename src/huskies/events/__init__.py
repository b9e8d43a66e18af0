"""Where an event's path begins: the shapes of SPEC 2, strict decoding, and what a story is."""

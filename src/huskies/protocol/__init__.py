"""The relay protocol of SPEC 5: its frames and both sides' state machines, free of I/O and clocks."""

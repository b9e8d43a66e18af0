"""Measurements of Huskies as users run it; `make bench` prints the table."""

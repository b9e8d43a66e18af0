"""Telling people: which events go where, when, and what became of each message."""

"""Channels that need no account of their own: signed webhooks, and whatever Apprise reaches."""

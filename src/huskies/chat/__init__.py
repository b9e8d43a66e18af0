"""The Matrix bot: what people ask of it in a room, what it answers, and Matrix as a channel."""

"""What every reader makes of a gateway's answers: the fleet, a story's life, an event in words."""

"""A demonstration: made-up projects live through a day in a few minutes, with real sleds and a gateway."""

"""Other gateways: what each lacks of the other's log, sent both ways over one connection."""

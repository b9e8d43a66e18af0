"""The sled: sees one project's status events, keeps them durably, and relays them to the gateway (SPEC 3)."""

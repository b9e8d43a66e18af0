"""Who may do what at a gateway: tokens and their scopes, enrolled sleds, people who log in, and the audit."""

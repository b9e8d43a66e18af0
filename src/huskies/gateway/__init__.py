"""The server that all sleds push to: admits them, keeps what they send for ever, and shows it live."""

"""Speak to a hub: one client, typed errors, bounded retries, shared rate limits."""

"""Load for schedulers: thousands of pods with claims, and when each was bound."""

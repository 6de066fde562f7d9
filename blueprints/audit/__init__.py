"""The audit trail: who did what, of everything in one's scope and of one customer."""

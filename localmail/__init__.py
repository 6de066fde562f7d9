"""A mail server for one's own machine: it keeps what it receives and shows it at a mailbox page."""

"""The REST API, from the outside."""

"""Tenant Creation Management: the list of requests, a request's page, and what is done there."""

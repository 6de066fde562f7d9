"""Tenant Registration: getting in, and the wizard."""

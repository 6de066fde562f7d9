"""The REST API: operations on resources, described by themselves as OpenAPI."""

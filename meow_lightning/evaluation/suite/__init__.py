"""All metrics over all roles and sets, from prediction rows to ``Results``."""

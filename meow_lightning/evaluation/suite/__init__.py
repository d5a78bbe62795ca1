"""All metrics over all roles and sets: from predictions to ``Results``."""

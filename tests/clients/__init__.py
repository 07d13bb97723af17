"""Real clients, unmodified, against `luthien-guard serve`: `nox -s clients`."""

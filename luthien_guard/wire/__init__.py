"""The wire formats: what the providers speak, sans-IO. `formats.FORMATS` names them all."""

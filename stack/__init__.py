"""The platform as code: rooms that render (pure) and components that place (Pulumi)."""

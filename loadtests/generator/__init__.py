"""What makes the load: worker processes, the people and schedules in them, and how their records come together."""

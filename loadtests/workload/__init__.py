"""What is asked, and when: profiles, prompts, lengths, arrivals, logs. Pure."""

"""Services of one's own, with the platform's hardening."""

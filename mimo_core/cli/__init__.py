"""What a user starts: one module a job, each both `mimo <job>` and `python -m jobs.<job>`."""

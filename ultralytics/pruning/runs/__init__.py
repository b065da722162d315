"""The folders of runs: whose they are, how one goes on, and what to run next."""

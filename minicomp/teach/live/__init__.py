"""A lesson that runs: its session, and students' code in processes of their own."""

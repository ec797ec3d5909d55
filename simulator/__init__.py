"""The offline planner: replays traces and answers capacity questions with the same `place()` that schedules."""
